"""Tiny encoders in the hub's layout, and files that ONNX Runtime's own quantizer makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from qdeploy.graph.constants import constant
from tests.calibrate.encoder import HIDDEN, MAX_LENGTH, encoder, feeds
from tests.tiny import _frame, _wordpiece

LABELS = ("entailment", "not_entailment")
KINDS = [
    f"{how}-{weights}"
    for how in ("dynamic", "qdq", "qoperator")
    for weights in ("tensor", "channel")
]


class Reader(CalibrationDataReader):
    """Calibration batches of random tokens."""

    def __init__(self) -> None:
        self._left: Iterator[dict[str, Any]] = iter(feeds(4, 12, seed=at) for at in range(3))

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


def hub(path: Path, layers: int = 2, model: ir.Model | None = None) -> Path:
    """A repository: config.json, tokenizer.json, onnx/model.onnx; returns the last."""
    (path / "onnx").mkdir(parents=True)
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "id2label": {str(at): label for at, label in enumerate(LABELS)},
        "max_position_embeddings": MAX_LENGTH,
        "hidden_size": HIDDEN,
    }
    (path / "config.json").write_text(json.dumps(config))
    tokenizer = _wordpiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "[UNK]")
    _frame(tokenizer, double=False, roberta_like=False)
    tokenizer.save(str(path / "tokenizer.json"))
    file = path / "onnx" / "model.onnx"
    written = ir.to_proto(model or encoder(layers=layers))
    del written.graph.value_info[:]  # the quantizer turns a Gemm's weight, and not its shape there
    onnx.save(written, file)
    return file


def quantized(file: Path, kind: str, out: Path, nodes: list[str] | None = None) -> Path:
    """A file as onnxruntime.quantization makes it of one of `KINDS`; some of its nodes alone."""
    how, weights = kind.split("-")
    more: dict[str, Any] = {
        "weight_type": QuantType.QInt8,
        "per_channel": weights == "channel",
        "op_types_to_quantize": ["MatMul"],
        "nodes_to_quantize": nodes,
        "extra_options": {"MatMulConstBOnly": True},
    }
    if how == "dynamic":
        quantize_dynamic(file, out, **more)
    else:
        form = {"qdq": QuantFormat.QDQ, "qoperator": QuantFormat.QOperator}[how]
        quantize_static(file, out, Reader(), quant_format=form, **more)
    return out


def changed(path: Path, change: Callable[[ir.Model], None], layers: int = 2) -> Path:
    """The file of another repository, whose graph was changed before it was saved."""
    model = encoder(layers=layers)
    change(model)
    return hub(path, model=model)


def with_weight(name: str, new: Callable[[Any], Any]) -> Callable[[ir.Model], None]:
    """A change of an initializer."""

    def change(model: ir.Model) -> None:
        value = model.graph.initializers[name]
        array = np.ascontiguousarray(new(constant(value)))
        value.const_value = ir.tensor(array, name=name)
        value.shape = ir.Shape(array.shape)

    return change
