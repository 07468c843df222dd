"""Two graphs that must compute the same: run both on a padded batch and compare.

Channels in another order are summed in another order, so FP32 outputs differ by roundings, which
grow with the outputs. Where they exceed `TOLERANCE`, the original graph is the measure: every
weight of it is moved to a neighbouring FP32 number, and what that changes is the rounding that
the graph has anyway (its backward error: Higham, Accuracy and Stability, 2nd ed., section 1.5). A
sum in another order is as good as the first one when it changes no more than a few times that. A
constant in the wrong place, or off by 1e-3, changes some thousand times as much. FP64 would tell
the same, but ONNX Runtime has no FP64 kernels for Gelu and others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qdeploy.deploy.certificate import probe_feeds
from qdeploy.deploy.ort.session import open_session, session_options
from qdeploy.files.artifact import save_graph
from qdeploy.files.scratch import scratch
from qdeploy.graph.session import run_session
from qdeploy.types import Array

# Of outputs of 1 and below, relative to them; above 1 absolute. Far below any quantization step.
TOLERANCE = 1e-4
# The difference over the graph's own rounding: 0.1 to 2 for permutations of the tested families.
ROUNDINGS = 8.0
_NEIGHBOURS = 2  # draws of neighbouring constants
_FINITE = 1e30  # above stand masks such as FP32's least number, whose neighbour is infinite
_ROWS, _TOKENS = 6, 48


@dataclass(frozen=True)
class Comparison:
    """What two graphs gave on the same input.

    Attributes:
        difference: largest absolute difference of an output.
        relative: the largest one over the largest value of that output.
        rounding: what roundings of the original change, relative; None where it was not needed.
        before, after: the watched tensors of each.
    """

    difference: float
    relative: float
    rounding: float | None
    before: list[Array]
    after: list[Array]

    @property
    def agrees(self) -> bool:
        """Whether the graphs compute the same, within the roundings of FP32."""
        if self.rounding is None:
            return True
        return self.relative <= ROUNDINGS * self.rounding  # False for NaN

    def __str__(self) -> str:
        own = "" if self.rounding is None else f", where rounding explains {self.rounding:.1e}"
        return f"{self.difference:.3g}, {self.relative:.1e} of the largest one{own}"


def compare(
    original: ir.Model, changed: ir.Model, feeds: Mapping[str, Array], watched: Sequence[str] = ()
) -> Comparison:
    """Run both graphs; `watched` names tensors of both that are returned too."""
    outputs = [_run(model, feeds, watched) for model in (original, changed)]
    count = len(original.graph.outputs)
    before, after = outputs[0][:count], outputs[1][:count]
    gaps = [float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True)]
    sizes = [float(np.abs(a).max()) for a in before]
    alike = all(g <= TOLERANCE * min(1.0, s) for g, s in zip(gaps, sizes, strict=True))
    return Comparison(
        difference=float(np.max(gaps)),  # NaN where there is one
        relative=_relative(before, after),
        rounding=None if alike else _rounding(original, feeds, before),
        before=outputs[0][count:],
        after=outputs[1][count:],
    )


def _relative(before: Sequence[Array], after: Sequence[Array]) -> float:
    """The largest difference over the largest value of its output."""
    pairs = zip(before, after, strict=True)
    return float(np.max([np.abs(a - b).max() / (np.abs(a).max() or 1.0) for a, b in pairs]))


def _rounding(model: ir.Model, feeds: Mapping[str, Array], before: Sequence[Array]) -> float:
    """What the outputs change, relative, when each weight becomes a neighbouring FP32 number."""
    changes = [2.0**-24]  # half a unit in the last place: the rounding of the output itself
    for seed in range(_NEIGHBOURS):
        moved = model.clone()
        rng = np.random.default_rng(seed)
        for name, value in moved.graph.initializers.items():
            if value.dtype != ir.DataType.FLOAT or value.const_value is None:
                continue
            # not single numbers: MPNet computes whole buckets of distances from one
            if value.const_value.size > 1:
                array = _neighbour(value.const_value.numpy(), rng)
                value.const_value = ir.Tensor(array, name=name)
        changes.append(_relative(before, run_once(moved, feeds)))
    return max(changes)


def _neighbour(array: Array, rng: np.random.Generator) -> Array:
    """The next FP32 number above or below each value, by chance."""
    towards = np.where(rng.random(array.shape) < 0.5, -np.inf, np.inf).astype(np.float32)
    moved: Array = np.nextafter(array, towards)
    return np.where((np.abs(array) < _FINITE) & (array != 0), moved, array).astype(np.float32)


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
    with scratch("equivalence") as folder:
        path = folder / "model.onnx"
        save_graph(model, path, "model.onnx.data")
        session = open_session(path, session_options(threads=2))
        wanted = {value.name: feeds[value.name] for value in session.get_inputs()}
        return [np.asarray(array) for array in run_session(session, wanted, path)]


def _run(model: ir.Model, feeds: Mapping[str, Array], watched: Sequence[str]) -> list[Array]:
    if watched:
        model = model.clone()
        values = {str(value.name): value for node in model.graph for value in node.outputs}
        model.graph.outputs.extend(values[name] for name in watched)
    return run_once(model, feeds)
