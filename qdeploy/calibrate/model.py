"""The canonical graph of a model directory, and what identifies it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from qdeploy.data.row_texts import text_columns as text_columns  # for deploy, which knows no data
from qdeploy.errors import ModelError
from qdeploy.files.artifact import MANIFEST, read_manifest
from qdeploy.files.integrity import GRAPHS, read_whole, verify
from qdeploy.onnx_file.check import GRAPH, check_inside, check_names, load_graph

if TYPE_CHECKING:
    pass


def model_digest(model_dir: Path) -> str:
    """What identifies a model: the sha256 of its graph file, and of its weight file if it has one.

    Two fine-tunings of one large encoder differ in `model.onnx.data` alone.

    Raises:
        ModelError: not a model directory, or a file that export did not write.
    """
    manifest = read_manifest(model_dir, "model")
    files = manifest["files"]
    if GRAPH not in files:
        raise ModelError(f"{model_dir / MANIFEST} lists no {GRAPH}. Export the checkpoint again.")
    verify(model_dir, manifest, GRAPHS)
    digests = [files[name] for name in (GRAPH, f"{GRAPH}.data") if name in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256(repr(digests).encode()).hexdigest()


def load_model(model_dir: Path) -> tuple[ir.Model, str]:
    """The canonical graph of a model directory, and its `model_digest`.

    Raises:
        ModelError: not a model directory, a damaged file, or a weight that is NaN or infinite.
    """
    return read_whole(model_dir, lambda: _load_model(model_dir))


def _load_model(model_dir: Path) -> tuple[ir.Model, str]:
    digest = model_digest(model_dir)
    path = model_dir / GRAPH
    check_inside(path)
    model = load_graph(path, "Export the checkpoint again.")
    for name, value in model.graph.initializers.items():
        if value.dtype != ir.DataType.FLOAT or value.const_value is None:
            continue
        if not np.isfinite(value.const_value.numpy()).all():
            raise ModelError(f"{path}: weight {name} holds NaN or infinity. Train it again.")
    inputs, outputs = (map(_name, values) for values in (model.graph.inputs, model.graph.outputs))
    check_names(path, inputs, outputs, read_manifest(model_dir, "model"))
    return model, digest


def _name(value: ir.Value) -> str:
    return str(value.name)
