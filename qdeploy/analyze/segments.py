"""The canonical model cut behind every site, so that no part is run twice for the same answer.

A run in which one site of layer L is rounded is, up to layer L, the run in which none is; and one
in which it alone is not rounded is, up to there, the run in which all are. What stands at a cut is
kept from those two runs, and the others start there.

A segment is a session of one thread, and standard FP32 operators: sites are measured side by side,
which keeps the cores busier than several threads in one small product. Rounding is done between the
segments, on arrays, so that no segment holds an operator for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from qdeploy.analyze.cuts import Cut, copies, cut_behind_sites
from qdeploy.analyze.rounding import Rounding
from qdeploy.graph.session import run_session, session_of
from qdeploy.graph.structure import Structure
from qdeploy.onnx_file.check import GRAPH
from qdeploy.types import Array

Feeds = Mapping[str, Array]
State = Mapping[str, Array]  # what stands at a cut, by value name
# Share of the cuts where fewest values stand: of sixteen sites of a layer four are on the one path
# that everything takes.
_NARROW = 0.3


class SegmentedModel:
    """A model whose sites can be rounded to 8 bits, each by itself. Weights stay FP32.

    Cut 0 stands in front of the first node, cut i + 1 behind site i.

    Args:
        model: canonical FP32 graph; it is not changed.
        structure: its sites and GEMMs.
    """

    def __init__(self, model: ir.Model, structure: Structure) -> None:
        cut = cut_behind_sites(model, structure)
        self._sites, self._inputs, self._outputs = cut.sites, cut.inputs, cut.outputs
        self.cut_of = {site.tensor: index + 1 for index, site in enumerate(cut.sites)}
        self._output = str(cut.graph.outputs[0].name)
        self._sessions = [_session(cut, at, model.ir_version) for at in range(len(cut.inputs))]
        self._last = {name: at for at, names in enumerate(cut.inputs) for name in names}
        self._last |= self.cut_of | {self._output: len(cut.inputs)}
        self._alive = [frozenset(self._standing(at)) for at in range(len(cut.inputs))]

    @property
    def narrow_cuts(self) -> tuple[int, ...]:
        """Cuts where few values stand: in front of a layer, or of its feed-forward block."""
        counts = [len(names) for names in self._alive[1:]]
        few = np.quantile(counts, _NARROW) if counts else 0
        return tuple(at for at, count in enumerate(counts, 1) if count <= few)

    def run(
        self,
        feeds: Feeds,
        rounded: Mapping[str, Rounding],
        *,
        everywhere: bool = False,
        start: int = 0,
        state: State | None = None,
        keep: Sequence[int] = (),
    ) -> tuple[Array, dict[int, State]]:
        """The first output, FP32 [B, …], and what stood at the cuts to keep.

        Args:
            feeds: int64 [B, S] by input name.
            rounded: what is in 8 bits, by tensor name.
            everywhere: every reader of a rounded site reads it rounded (scope all), not its GEMMs
                alone (scope gemm).
            start: cut to start at.
            state: what stood there in another run; None for cut 0.
            keep: cuts.
        """
        values = dict(feeds if state is None else state)
        kept: dict[int, State] = {}
        for at in range(start, len(self._sessions)):
            if at in keep:
                kept[at] = {name: values[name] for name in self._alive[at]}
            if at:
                self._hand_on(at - 1, values, rounded, everywhere)
            self._run_segment(at, values)
            for name in [name for name in values if self._last.get(name, -1) <= at]:
                del values[name]
        return _without_padding(values[self._output], feeds), kept

    def _run_segment(self, at: int, values: dict[str, Array]) -> None:
        session = self._sessions[at]
        if session is not None:
            feeds = {name: values[name] for name in self._inputs[at]}
            found = run_session(session, feeds, Path(GRAPH))
            values.update(zip(self._outputs[at], found, strict=True))

    def _hand_on(
        self,
        index: int,
        values: dict[str, Array],
        rounded: Mapping[str, Rounding],
        everywhere: bool,
    ) -> None:
        """Give the readers of a site what they are to read."""
        tensor = self._sites[index].tensor
        plain, rounding = values[tensor], rounded.get(tensor)
        coarse = plain if rounding is None else rounding.apply(plain)
        gemms, others = copies(index)
        values[gemms], values[others] = coarse, coarse if everywhere else plain

    def _standing(self, at: int) -> Iterator[str]:
        """What stands at a cut, before the readers of the site there are given anything."""
        born = {name: n + 1 for n, names in enumerate(self._outputs) for name in names}
        for index in range(len(self._sites)):
            born |= dict.fromkeys(copies(index), index + 2)
        for names in self._inputs[at:]:
            yield from (name for name in names if born.get(name, 0) <= at)
        if at:
            yield self._sites[at - 1].tensor
        if born[self._output] <= at:
            yield self._output


def _session(cut: Cut, at: int, ir_version: int) -> ort.InferenceSession | None:
    """The session of a segment; None where no node is in it (two sites of one producer)."""
    if not cut.outputs[at]:
        return None
    part = ir.convenience.extract(cut.graph, cut.inputs[at], cut.outputs[at])
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = options.enable_mem_pattern = False  # one for each would add up
    options.log_severity_level = 3
    session: ort.InferenceSession = session_of(ir.Model(part, ir_version=ir_version), options)
    return session


def _without_padding(logits: Array, feeds: Feeds) -> Array:
    """Logits of padded tokens zeroed, where each token has its own."""
    mask = feeds.get("attention_mask")
    if mask is None or logits.ndim < 3 or logits.shape[:2] != mask.shape:
        return logits
    result: Array = logits * mask[..., None]
    return result
