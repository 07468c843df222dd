"""Two graphs that must compute the same: run both on a padded batch and compare."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.deploy.certificate import probe_feeds
from qdeploy.deploy.ort_cpu_engine import open_session, session_options

Array = npt.NDArray[Any]

# Reordered channels are summed in another order: FP32 rounding, far below any quantization step.
TOLERANCE = 1e-4
_ROWS, _TOKENS = 6, 48


@dataclass(frozen=True)
class Comparison:
    """What two graphs gave on the same input.

    Attributes:
        difference: largest absolute difference of an output.
        before, after: the watched tensors of each.
    """

    difference: float
    before: list[Array]
    after: list[Array]


def compare(
    original: ir.Model, changed: ir.Model, feeds: Mapping[str, Array], watched: Sequence[str] = ()
) -> Comparison:
    """Run both graphs; `watched` names tensors of both that are returned too."""
    outputs = [_run(model, feeds, watched) for model in (original, changed)]
    count = len(original.graph.outputs)
    results = zip(outputs[0][:count], outputs[1][:count], strict=True)
    difference = max(float(np.abs(a - b).max()) for a, b in results)
    return Comparison(difference, outputs[0][count:], outputs[1][count:])


def padded_feeds(
    model: ir.Model, inputs: list[str], *, max_length: int, pad_token_id: int
) -> dict[str, Array]:
    """Random tokens of the whole vocabulary, int64 [6, S ≤ 48], each row shorter than the last."""
    length = min(_TOKENS, max_length)
    feeds = probe_feeds(inputs, batch=_ROWS, sequence=length)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, _vocabulary(model), (_ROWS, length))
    ids[ids == pad_token_id] = (pad_token_id + 1) % _vocabulary(model)
    kept = np.arange(length) < np.linspace(length, 4, _ROWS, dtype=int)[:, None]
    feeds["input_ids"] = np.where(kept, ids, pad_token_id)
    if "attention_mask" in feeds:
        feeds["attention_mask"] = kept.astype(np.int64)
    return feeds


def _vocabulary(model: ir.Model) -> int:
    """Rows of the table that the token ids index."""
    for node in model.graph:
        if node.op_type == "Gather" and str(getattr(node.inputs[1], "name", "")) == "input_ids":
            table = node.inputs[0]
            if table is not None and table.shape is not None and isinstance(table.shape[0], int):
                return table.shape[0]
    return 10


def run_once(model: ir.Model, feeds: Mapping[str, Array]) -> list[Array]:
    """Outputs of a graph in ONNX Runtime; inputs that it does not have are left out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        ir.save(model, path, external_data="model.onnx.data")
        session = open_session(path, session_options(threads=2))
        wanted = {value.name: feeds[value.name] for value in session.get_inputs()}
        return [np.asarray(array) for array in session.run(None, wanted)]


def _run(model: ir.Model, feeds: Mapping[str, Array], watched: Sequence[str]) -> list[Array]:
    if watched:
        model = model.clone()
        values = {str(value.name): value for node in model.graph for value in node.outputs}
        model.graph.outputs.extend(values[name] for name in watched)
    return run_once(model, feeds)
