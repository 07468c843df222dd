"""Attention masks at a value that keeps ONNX Runtime's softmax fast.

transformers adds the lowest FP32 number to the score of a masked token. Its exponential is then a
denormal (MLAS clamps the argument at −104, and e⁻¹⁰⁴ < 1.2e-38), and arithmetic on denormals runs
in microcode: on batches that are half padding the softmax takes several times as long as on full
ones. At −55 the exponential is a normal number, and still nothing beside a real token's.

What a masked token then gets is the *leak*: e^(Δ − 55) for a score that is Δ above the row's best
unmasked one. It is measured before it is trusted (`leak`): above e⁻³⁰ the mask stays as it was. So
the leak reaches one part in ten thousand, a hundredth of what INT8 rounding does, only for a score
20 further up than any that was seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qdeploy.calibrate.plan import Plan
from qdeploy.deploy.certificate import probe_feeds
from qdeploy.deploy.passes.base import Pass, PassResult, Report, Verdict
from qdeploy.deploy.passes.equivalence import Comparison, ModelInputs, run_once
from qdeploy.graph.constants import constant
from qdeploy.graph.editor import GraphEditor
from qdeploy.graph.sites import SHAPE_OPERATORS
from qdeploy.graph.structure import Structure

MASKED = -55.0
LARGEST_LEAK = math.exp(-30.0)
_LOWEST = -1e4  # the least that libraries have used as "never attend"
_LONGEST = 4096  # tokens; the conditions of longer rows take too much memory
_LAYOUT = SHAPE_OPERATORS | {"Expand", "Slice", "Gather"}


@dataclass(frozen=True)
class LightenMasks(Pass):
    """Every constant that only masks padding in softmax scores becomes `MASKED`.

    1. Assumes nothing of the graph but that its inputs are `inputs`.
    2. Recognizes Where(…, constant), its layout changed or not, as a softmax's input, or as one
       summand of it, with a constant of −1e4 or below.
    3. Guarantees that a masked token gets less than `LARGEST_LEAK` of any softmax's attention on
       the rows compared; else all masks stay.
    4. Leaves a constant with any other reader.
    5. Leaves a mask that hides something in a row without padding. Windows of attention
       (ModernBERT) hide real tokens at any distance, which no row that is compared covers.

    Attributes:
        inputs: of the graph.
    """

    name = "attention_mask"
    action = "A lighter attention mask"
    nothing: ClassVar[Report] = {"attention_mask": None}

    inputs: ModelInputs

    def apply(self, model: ir.Model, plan: Plan, structure: Structure) -> PassResult:
        """Replace the constants; see `Pass.apply`."""
        del structure
        found = list(_masks(model))
        if not found:
            return self.leave(plan, "no constant that only masks scores of a softmax")
        masks = self._of_padding(model, found)
        if not masks:
            return self.leave(plan, "every mask hides more than padding")
        light = GraphEditor(model).constant("masked_score", np.full((), MASKED, np.float32))
        for mask in masks:
            mask.node.replace_input_with(mask.index, light)
        # the leak is not known before the comparison
        report = _report(MASKED, None)
        return PassResult(True, plan, report, watched=tuple(softmax_outputs(model)))

    def judge(self, result: PassResult, found: Comparison) -> Verdict:
        """The outputs agree, and no masked token gets any attention."""
        verdict = super().judge(result, found)
        largest = leak(
            [found.before[name] for name in result.watched],
            [found.after[name] for name in result.watched],
        )
        if not largest <= LARGEST_LEAK:  # NaN, too
            leaked = f"a masked token would get {largest:.1e} of the attention"
            return Verdict(False, _report(None, largest), leaked)
        value = MASKED if verdict.kept else None
        return replace(verdict, report=_report(value, largest))

    def _of_padding(self, model: ir.Model, masks: list[_Mask]) -> list[_Mask]:
        """Those that hide nothing in a row as long as the model takes, without padding."""
        # No token of the row is padding: what a mask hides in it is hidden for another reason.
        length = min(_LONGEST, self.inputs.max_length)
        feeds = probe_feeds(list(self.inputs.names), batch=1, sequence=length)
        part = _conditions(model, masks)
        names = [str(value.name) for value in part.graph.outputs]
        seen = dict(zip(names, run_once(part, feeds), strict=True))
        return [mask for mask in masks if not mask.hides(seen[mask.condition])]


@dataclass(frozen=True)
class _Mask:
    """A Where that puts a constant in the place of scores: input `index` of its node."""

    node: ir.Node
    index: int

    @property
    def condition(self) -> str:
        """Name of the tensor that chooses between score and mask."""
        value = self.node.inputs[0]
        assert value is not None
        return str(value.name)

    def hides(self, condition: npt.NDArray[np.bool_]) -> bool:
        """Whether anything is masked under this value of the node's condition."""
        return bool((condition if self.index == 1 else ~condition).any())


def _masks(model: ir.Model) -> Iterator[_Mask]:
    for node in model.graph:
        if node.op_type != "Where" or not _only_masks(node.outputs[0], summed=False):
            continue
        # Where(hidden, constant, scores) has it at 1, Where(kept, scores, constant) at 2.
        for index in (1, 2):
            array = constant(node.inputs[index])
            if array is not None and array.size == 1 and array.item() <= _LOWEST:
                yield _Mask(node, index)


def _report(value: float | None, largest: float | None) -> Report:
    return {"attention_mask": {"value": value, "largest_leak": largest}}


def _only_masks(value: ir.Value, *, summed: bool) -> bool:
    """Whether every path from a value leads into a softmax, through at most one sum."""
    pending = [(value, summed)]
    while pending:
        value, summed = pending.pop()
        uses = value.uses()
        if not uses or value.is_graph_output():
            return False
        for use in uses:
            kind, output = use.node.op_type, use.node.outputs[0]
            if kind == "Softmax":
                continue
            if kind in _LAYOUT and use.idx == 0:
                pending.append((output, summed))
            elif kind == "Add" and not summed:
                pending.append((output, True))
            else:
                return False
    return True


def _conditions(model: ir.Model, masks: Sequence[_Mask]) -> ir.Model:
    """The part of a graph that computes the masks' conditions, each once, as its outputs."""
    names = dict.fromkeys(mask.condition for mask in masks)
    part = ir.convenience.extract(model.graph, model.graph.inputs, tuple(names))
    for value in part.outputs:
        value.type = ir.TensorType(ir.DataType.BOOL)
    return ir.Model(part, ir_version=model.ir_version)


def softmax_outputs(model: ir.Model) -> list[str]:
    """Names of the attention probabilities [B, H, S, S]."""
    return [
        str(node.outputs[0].name)
        for node in model.graph
        if node.op_type == "Softmax" and not node.outputs[0].is_graph_output()
    ]


def leak(
    before: Sequence[npt.NDArray[np.float32]], after: Sequence[npt.NDArray[np.float32]]
) -> float:
    """The largest probability of a token that had none.

    Args:
        before: probabilities with the mask as it was.
        after: the same, with the lighter one.

    >>> leak([np.float32([1, 0])], [np.float32([1, 1e-20])]) < LARGEST_LEAK
    True
    """
    # a clamped exponential leaves a denormal, not a zero
    tiny = np.finfo(np.float32).tiny
    return max(
        (float(new[old < tiny].max(initial=0.0)) for old, new in zip(before, after, strict=True)),
        default=0.0,
    )
