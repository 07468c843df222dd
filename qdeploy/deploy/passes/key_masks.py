"""Attention masks of keys alone: [B, 1, 1, S], where the export has one for every query.

transformers makes masks that may differ from query to query, [B, 1, S, S], with some twenty
operators. In an encoder without windows all queries have the same: which keys are real. Three
operators say that, of a size that does not grow with the square of the tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from qdeploy.deploy.passes.equivalence import run_each
from qdeploy.graph.constants import constant
from qdeploy.graph.editor import GraphEditor
from qdeploy.types import Array


def mask_keys(
    model: ir.Model, feeds: Sequence[Mapping[str, Array]], mask: str = "attention_mask"
) -> int:
    """Let conditions of masks be computed from the mask of keys.

    1. Assumes that shapes of the canonical graph stand on its values.
    2. Recognizes bool [B, 1, S, S] that chooses in a Where.
    3. Guarantees the same condition on all feeds: a key is real, or is not, for every query.
    4. Leaves a condition that hides more, such as windows of attention (ModernBERT).

    Args:
        model: changed in place.
        feeds: arrays by input name, int64 [B, S], with every kind of mask.
        mask: name of the input [B, S], not zero where a token is real.

    Returns:
        How many conditions are another tensor now.
    """
    source = next((value for value in model.graph.inputs if value.name == mask), None)
    found = [] if source is None else _conditions(model, source)
    if source is None or not found:
        return 0
    # how a mask came about does not matter, only what it hides
    seen = _values(model, found, feeds)
    editor = GraphEditor(model)
    keys = [batch[mask][:, None, None, :] != 0 for batch in feeds]
    made: dict[bool, ir.Value] = {}
    for value, arrays in zip(found, seen, strict=True):
        # Where(kept, score, masked) and Where(hidden, masked, score) both occur
        for hidden in (False, True):
            if all(_same(a, k != hidden) for a, k in zip(arrays, keys, strict=True)):
                if hidden not in made:
                    made[hidden] = _keys(editor, source, value, hidden=hidden)
                _replace(editor, value, made[hidden])
                break
    editor.finish()
    return len(made)


def _conditions(model: ir.Model, mask: ir.Value) -> list[ir.Value]:
    """Bool [B, 1, S, S] that a Where chooses by, each once."""
    assert mask.shape is not None
    batch, tokens = (str(size) for size in mask.shape)
    found: dict[ir.Value, None] = {}
    # once each: all layers read the same tensor
    for node in model.graph:
        value = node.inputs[0] if node.op_type == "Where" else None
        if value is None or value.shape is None or value.producer() is None:
            continue
        if [str(size) for size in value.shape] == [batch, "1", tokens, tokens]:
            found[value] = None
    return list(found)


def _values(
    model: ir.Model, conditions: list[ir.Value], feeds: Sequence[Mapping[str, Array]]
) -> list[list[Array]]:
    """Of each condition its arrays, bool [B, 1, S, S], by feed."""
    names = [str(value.name) for value in conditions]
    part = ir.convenience.extract(model.graph, model.graph.inputs, names)
    for value in part.outputs:
        value.type = ir.TensorType(ir.DataType.BOOL)
    arrays = run_each(ir.Model(part, ir_version=model.ir_version), feeds)
    return [arrays[at :: len(names)] for at in range(len(names))]


def _same(condition: Array, keys: Array) -> bool:
    return bool(np.array_equal(condition, np.broadcast_to(keys, condition.shape)))


def _keys(editor: GraphEditor, mask: ir.Value, like: ir.Value, *, hidden: bool) -> ir.Value:
    """bool [B, 1, 1, S], true where a key is real, or where it is hidden."""
    boolean, assumed = ir.DataType.BOOL, like.shape
    assert assumed is not None
    real = editor.node("Cast", [mask], "keys/real", dtype=boolean, to=boolean.value).outputs[0]
    if hidden:
        real = editor.node("Not", [real], "keys/hidden", dtype=boolean).outputs[0]
    axes = editor.constant("keys/axes", np.array([1, 2], np.int64))
    found = editor.node("Unsqueeze", [real, axes], "keys/mask", dtype=boolean).outputs[0]
    found.shape = ir.Shape([assumed[0], 1, 1, assumed[3]])
    return found


def _replace(editor: GraphEditor, old: ir.Value, keys: ir.Value) -> None:
    """Let every reader choose by keys, and have that shape where it chooses between numbers."""
    for use in old.uses():
        node = use.node
        # between tensors of scores the choice still has one of each query
        numbers = (constant(value) for value in node.inputs[1:])
        single = all(array is not None and array.size == 1 for array in numbers)
        if node.op_type == "Where" and use.idx == 0 and single:
            node.outputs[0].shape = None if keys.shape is None else keys.shape.copy()
    editor.replace_uses(old, keys, besides=set())
