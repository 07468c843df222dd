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

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qdeploy.deploy.certificate import probe_feeds
from qdeploy.deploy.ort.session import as_written, open_session, session_options
from qdeploy.files.artifact import save_graph
from qdeploy.files.scratch import scratch
from qdeploy.graph.session import run_session
from qdeploy.schemas.manifest import Interface
from qdeploy.types import Array

# Of outputs of 1 and below, relative to them; above 1 absolute. Far below any quantization step.
TOLERANCE = 1e-4
# The difference over the graph's own rounding: 0.1 to 2 for permutations of the tested families.
ROUNDINGS = 8.0
_NEIGHBOURS = 2  # draws of neighbouring constants
_FINITE = 1e30  # above stand masks such as FP32's least number, whose neighbour is infinite
_ROWS, _TOKENS = 6, 48


@dataclass(frozen=True)
class ModelInputs:
    """What the rows of a model look like.

    Attributes:
        names: of the graph's inputs, int64 [B, S] each.
        max_length: the largest S, tokens.
        pad_token_id: the token of padding.
    """

    names: tuple[str, ...]
    max_length: int
    pad_token_id: int

    @classmethod
    def of(cls, manifest: Interface) -> ModelInputs:
        """From the manifest of a model directory."""
        return cls(tuple(manifest["inputs"]), manifest["max_length"], manifest["pad_token_id"])


@dataclass(frozen=True)
class Comparison:
    """What two graphs gave on the same input.

    Attributes:
        difference: largest absolute difference of an output.
        relative: the largest one over the largest value of that output.
        alike: whether every output is within `TOLERANCE`.
        roundings: computes what roundings of the original change, relative.
        before, after: the watched tensors of each, by name.
    """

    difference: float
    relative: float
    alike: bool
    roundings: Callable[[], float]
    before: dict[str, Array]
    after: dict[str, Array]

    @property
    def rounding(self) -> float | None:
        """What roundings of the original change, relative; None where it need not be known."""
        return None if self.alike else self.roundings()

    def within(self, tolerance: float | None) -> bool:
        """Whether the graphs compute the same.

        Args:
            tolerance: for the difference relative to the largest value of an output; None for what
                the roundings of FP32 explain.
        """
        if tolerance is not None:
            return self.relative <= tolerance  # False for NaN
        return self.alike or self.relative <= ROUNDINGS * self.roundings()

    def __str__(self) -> str:
        own = "" if self.alike else f", where rounding explains {self.roundings():.1e}"
        return f"{self.difference:.3g}, {self.relative:.1e} of the largest one{own}"


class Reference:
    """A graph that others have to agree with; each of its runs is made once, when needed.

    Args:
        model: not to be changed while this is in use.
        feeds: arrays by input name, of one batch or several; tensors are watched in the last.
        real_only: leave out what an output of tokens says of padding.
    """

    def __init__(
        self, model: ir.Model, *feeds: Mapping[str, Array], real_only: bool = False
    ) -> None:
        self._model, self._feeds = model, feeds
        self._run = run_real if real_only else run_each
        self._runs: dict[tuple[str, ...], list[Array]] = {}  # by the names of watched tensors
        self._changed: float | None = None

    def compare(self, changed: ir.Model, watched: Sequence[str] = ()) -> Comparison:
        """Run another graph on the same input; `watched` names tensors of both."""
        names = tuple(watched)
        if names not in self._runs:
            self._runs[names] = self._run(_watching(self._model, names), self._feeds)
        count = len(self._model.graph.outputs)
        before, seen_before = _split(self._runs[names], count, len(names))
        found = self._run(_watching(changed, names), self._feeds)
        after, seen_after = _split(found, count, len(names))
        gaps = [_gap(a, b) for a, b in zip(before, after, strict=True)]
        sizes = [float(np.abs(a).max()) for a in before]
        return Comparison(
            difference=float(np.max(gaps)),  # NaN where there is one
            relative=largest_difference(before, after),
            alike=all(g <= TOLERANCE * min(1.0, s) for g, s in zip(gaps, sizes, strict=True)),
            roundings=functools.partial(self._rounding, before),
            before=dict(zip(names, seen_before, strict=True)),
            after=dict(zip(names, seen_after, strict=True)),
        )

    @property
    def outputs(self) -> list[Array]:
        """Of the graph itself, batch by batch."""
        if () not in self._runs:
            self._runs[()] = self._run(self._model, self._feeds)
        return self._runs[()]

    def _rounding(self, before: Sequence[Array]) -> float:
        """What the outputs change, relative, when each weight becomes a neighbouring number."""
        if self._changed is None:
            # half a unit in the last place: the rounding of the output itself
            self._changed = 2.0**-24
            for seed in range(_NEIGHBOURS):
                moved = self._run(_moved(self._model, seed), self._feeds)
                self._changed = max(self._changed, largest_difference(before, moved))
        return self._changed


def _gap(before: Array, after: Array) -> float:
    """The largest difference; infinite for outputs of two shapes."""
    return float(np.abs(before - after).max()) if before.shape == after.shape else np.inf


def largest_difference(before: Sequence[Array], after: Sequence[Array]) -> float:
    """The largest difference over the largest value of its output."""
    pairs = zip(before, after, strict=True)
    return float(np.max([_gap(a, b) / (float(np.abs(a).max()) or 1.0) for a, b in pairs]))


def _moved(model: ir.Model, seed: int) -> ir.Model:
    """A clone with each weight at a neighbouring FP32 number."""
    moved = model.clone()
    rng = np.random.default_rng(seed)
    for name, value in moved.graph.initializers.items():
        if value.dtype != ir.DataType.FLOAT or value.const_value is None:
            continue
        # not single numbers: MPNet computes whole buckets of distances from one
        if value.const_value.size > 1:
            array = _neighbour(value.const_value.numpy(), rng)
            value.const_value = ir.Tensor(array, name=name)
    return moved


def _neighbour(array: Array, rng: np.random.Generator) -> Array:
    """The next FP32 number above or below each value, by chance."""
    towards = np.where(rng.random(array.shape) < 0.5, -np.inf, np.inf).astype(np.float32)
    moved: Array = np.nextafter(array, towards)
    return np.where((np.abs(array) < _FINITE) & (array != 0), moved, array).astype(np.float32)


def padded_feeds(model: ir.Model, inputs: ModelInputs) -> dict[str, Array]:
    """Random tokens of the whole vocabulary, int64 [6, S ≤ 48], each row shorter than the last."""
    length = min(_TOKENS, inputs.max_length)
    real = np.arange(length) < np.linspace(length, 4, _ROWS, dtype=int)[:, None]
    return random_feeds(model, inputs, real, np.random.default_rng(0))


def random_feeds(
    model: ir.Model, inputs: ModelInputs, real: Array, rng: np.random.Generator
) -> dict[str, Array]:
    """Random tokens of the whole vocabulary, int64 [B, S].

    Args:
        real: bool [B, S]; elsewhere stands padding, in the ids and in the mask.
    """
    feeds = probe_feeds(list(inputs.names), batch=real.shape[0], sequence=real.shape[1])
    ids = rng.integers(0, _vocabulary(model), real.shape)
    ids[ids == inputs.pad_token_id] = (inputs.pad_token_id + 1) % _vocabulary(model)
    # models that count positions from ids know padding by its token
    feeds["input_ids"] = np.where(real, ids, inputs.pad_token_id)
    if "attention_mask" in feeds:
        feeds["attention_mask"] = real.astype(np.int64)
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
    return run_each(model, [feeds])


def run_each(model: ir.Model, feeds: Sequence[Mapping[str, Array]]) -> list[Array]:
    """The same of several batches, one behind the other."""
    with scratch("equivalence") as folder:
        path = folder / "model.onnx"
        save_graph(model, path, "model.onnx.data")
        options = session_options(threads=2)
        stored = model.graph.initializers.values()
        if any(value.dtype == ir.DataType.FLOAT8E4M3FN for value in stored):
            options = as_written(options)
        session = open_session(path, options)
        names = [value.name for value in session.get_inputs()]
        wanted = ({name: batch[name] for name in names} for batch in feeds)
        return [np.asarray(o) for inputs in wanted for o in run_session(session, inputs, path)]


def run_real(model: ir.Model, feeds: Sequence[Mapping[str, Array]]) -> list[Array]:
    """The same, with zero where an output of tokens is of padding: that is nobody's answer."""
    found = iter(run_each(model, feeds))
    outputs = [(batch, value) for batch in feeds for value in model.graph.outputs]
    return [_only_real(next(found), batch, value) for batch, value in outputs]


def _only_real(array: Array, feeds: Mapping[str, Array], output: ir.Value) -> Array:
    shape, mask = output.shape, feeds.get("attention_mask")
    if mask is None or shape is None or len(shape) < 2 or isinstance(shape[1], int):
        return array
    real = mask.reshape(*mask.shape, *(1 for _ in range(array.ndim - 2))) != 0
    return np.where(real, array, np.zeros((), array.dtype))


def _watching(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """A clone with more outputs; the graph itself where none are watched."""
    if not names:
        return model
    watching = model.clone()
    values = ir.convenience.create_value_mapping(watching.graph, include_subgraphs=False)
    watching.graph.outputs.extend(values[name] for name in names)
    return watching


def _split(found: list[Array], outputs: int, watched: int) -> tuple[list[Array], list[Array]]:
    """Outputs of all batches, and the watched tensors of the last."""
    width = outputs + watched
    batches = [found[at : at + width] for at in range(0, len(found), width)]
    return [o for batch in batches for o in batch[:outputs]], batches[-1][outputs:]
