"""Attention masks as a choice between two numbers, where an exporter multiplied.

Up to release 4.47 transformers added (1 − mask) · lowest to the scores of attention. In the form of
later releases, and of dynamo's exporter, that is Where(real, 0, lowest), which passes know.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qdeploy.exporter.from_onnx.edit import Edit, array_of, is_standard, number_of

LEAST = -1e4  # "never attend", as the first exports of BERT said it; later ones use less
_LAYOUT = ("Cast", "Unsqueeze", "Reshape", "Identity", "Expand", "Squeeze")


def choose_masks(model: ir.Model) -> int:
    """Rewrite masks that are computed by multiplication, in place.

    1. Assumes that the mask of a batch holds 0 and 1, as every tokenizer gives it.
    2. Recognizes (1 − mask) · c with c of −1e4 or below, the mask in any layout and type.
    3. Guarantees the same numbers for masks of 0 and 1.
    4. Leaves products of anything else.

    Returns:
        How many were rewritten.
    """
    edit, count = Edit(model), 0
    for node in [n for n in model.graph if is_standard(n, "Mul")]:
        found = _hidden(node)
        if found is None:
            continue
        mask, lowest = found
        real = edit.add("Cast", [mask], node, to=ir.DataType.BOOL.value)
        real.shape, real.type = mask.shape, ir.TensorType(ir.DataType.BOOL)
        numbers = [
            edit.constant("mask/number", np.array(number, np.float32)) for number in (0.0, lowest)
        ]
        new = edit.add("Where", [real, *numbers], node)
        new.shape, new.type = node.outputs[0].shape, node.outputs[0].type
        edit.replace(node.outputs[0], new)
        count += 1
    edit.finish()
    return count


def _hidden(node: ir.Node) -> tuple[ir.Value, float] | None:
    """The mask of (1 − mask) · c, and c."""
    for factor, difference in (node.inputs, reversed(node.inputs)):
        lowest = number_of(factor)
        made = None if difference is None else difference.producer()
        if lowest is None or lowest > LEAST or made is None or not is_standard(made, "Sub"):
            continue
        mask = made.inputs[1]
        if number_of(made.inputs[0]) == 1 and mask is not None and of_mask(mask):
            return mask, lowest
    return None


def of_mask(value: ir.Value | None) -> bool:
    """Whether a value is the input `attention_mask` in another layout or type."""
    while value is not None and (node := value.producer()) is not None:
        if not is_standard(node, *_LAYOUT) or any(
            array_of(v) is None and not _of_integers(v) for v in node.inputs[1:]
        ):
            return False
        value = node.inputs[0]
    return value is not None and value.name == "attention_mask"


def _of_integers(value: ir.Value | None) -> bool:
    """Whether a computed value is a shape."""
    return value is not None and value.dtype == ir.DataType.INT64
