"""ONNX files as a test wants them, and what is said of those that are refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto

from qdeploy.errors import ModelError
from qdeploy.onnx_file.check import check_file
from tests.deploy.onnx_graphs import graph_of, node

SECONDS = 10.0  # of the processor, for any file


def written(folder: Path, content: onnx.ModelProto | bytes, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def refused(path: Path, look: Callable[[Path], Any] = check_file) -> str:
    """The text of a refusal, which took no time."""
    began = time.process_time()
    with pytest.raises(ModelError) as caught:
        look(path)
    assert time.process_time() - began < SECONDS
    text = str(caught.value)
    assert text.startswith(f"{path} ") and len(text) < len(str(path)) + 500
    return text


def outside(name: str, location: str, *, offset: int = 0, length: int = 256) -> TensorProto:
    """An FP32 tensor [8, …] in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[8, length // 32])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def storing(*tensors: TensorProto) -> onnx.ModelProto:
    """A model with one product, and these tensors."""
    model = graph_of([node("MatMul", ["x", "w"], ["y"])])
    model.graph.initializer.extend(tensors)
    return model
