"""Attention masks at a value that keeps ONNX Runtime's softmax fast.

transformers adds the lowest FP32 number to the score of a masked token. Its exponential is then a
denormal (MLAS clamps the argument at −104, and e⁻¹⁰⁴ < 1.2e-38), and arithmetic on denormals runs
in microcode: on batches that are half padding the softmax takes several times as long as on full
ones. At −55 the exponential is a normal number, and still nothing beside a real token's.

What a masked token then gets is the *leak*: e^(Δ − 55) for a score that is Δ above the row's best
unmasked one. It is measured before it is trusted (`leak`): above e⁻³⁰ the mask stays as it was.
Windows of attention (ModernBERT) mask real tokens at any distance, which no probe covers: a mask
that hides something where nothing is padded stays, too (`conditions`). So the leak reaches one part
in ten thousand, a hundredth of what INT8 rounding does, only for a score 20 further up than any
that was seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from qdeploy.graph.editor import GraphEditor
from qdeploy.graph.sites import SHAPE_OPERATORS, constant

MASKED = -55.0
LARGEST_LEAK = math.exp(-30.0)
_LOWEST = -1e4  # the least that libraries have used as "never attend"
_LAYOUT = SHAPE_OPERATORS | {"Expand", "Slice", "Gather"}


@dataclass(frozen=True)
class MaskChange:
    """One rewritten input: where it is, and what stood there."""

    node: ir.Node
    index: int
    before: ir.Value

    def undo(self) -> None:
        self.node.replace_input_with(self.index, self.before)

    @property
    def condition(self) -> str:
        """Name of the tensor that chooses between score and mask."""
        value = self.node.inputs[0]
        assert value is not None
        return str(value.name)

    def masked(self, condition: npt.NDArray[np.bool_]) -> bool:
        """Whether anything is masked under this value of the node's condition."""
        return bool((condition if self.index == 1 else ~condition).any())


def lighten_masks(model: ir.Model) -> list[MaskChange]:
    """Replace each constant that only masks softmax scores by `MASKED`, in place.

    Recognized: Where(…, constant), its layout changed or not, as a softmax's input, or as one
    summand of it. A constant with any other reader, or above −1e4, stays.

    Args:
        model: FP32 graph.
    """
    editor = GraphEditor(model)
    light: ir.Value | None = None
    changes = []
    for node in list(model.graph):
        if node.op_type != "Where" or not _only_masks(node.outputs[0], summed=False):
            continue
        for index in (1, 2):
            before = node.inputs[index]
            array = constant(before)
            if before is None or array is None or array.size != 1 or array.item() > _LOWEST:
                continue
            if light is None:
                light = editor.constant("masked_score", np.full((), MASKED, np.float32))
            changes.append(MaskChange(node, index, before))
            node.replace_input_with(index, light)
    return changes


def _only_masks(value: ir.Value, *, summed: bool) -> bool:
    """Whether every path from a value leads into a softmax, through at most one sum."""
    pending = [(value, summed)]
    while pending:
        value, summed = pending.pop()
        uses = list(value.uses())
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


def conditions(model: ir.Model, changes: Sequence[MaskChange]) -> ir.Model:
    """The part of a graph that computes the masks' conditions, each once, as its outputs."""
    names = dict.fromkeys(change.condition for change in changes)
    part = model.clone()
    values = {str(value.name): value for node in part.graph for value in node.outputs}
    part.graph.outputs[:] = [values[name] for name in names]
    for value in part.graph.outputs:
        value.type = ir.TensorType(ir.DataType.BOOL)
    RemoveUnusedNodesPass()(part)
    return part


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
