"""Inputs under their canonical names: int64 [batch, sequence], both dynamic."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from qdeploy.errors import CheckpointError
from qdeploy.exporter.from_onnx.edit import Edit, is_standard, readers
from qdeploy.exporter.from_onnx.observe import BATCH, SEQUENCE
from qdeploy.position_counts import counted_from

# Canonical name → what exporters call it: torch, Optimum, TensorFlow (tf2onnx), Google's own code.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "input_ids": ("input_ids", "input_word_ids", "ids", "tokens"),
    "attention_mask": ("attention_mask", "input_mask", "mask"),
    "token_type_ids": ("token_type_ids", "segment_ids", "input_type_ids", "type_ids"),
    "position_ids": ("position_ids",),
}
_DECODER = ("past_key", "decoder_", "encoder_hidden", "encoder_outputs", "use_cache", "cache_")
_INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)


def prepare_inputs(model: ir.Model, origin: str, config: Mapping[str, object]) -> dict[str, str]:
    """Rename, retype and free the inputs, in place.

    1. Assumes a graph without functions.
    2. Recognizes ids, mask, token types and positions by the names that exporters give them.
    3. Guarantees int64 [batch, sequence]; positions are computed.
    4. Leaves what the nodes say of sizes; see `observe`.

    Args:
        config: content of config.json.

    Returns:
        Canonical name → name in the file, also of inputs that the graph has no longer.

    Raises:
        CheckpointError: a decoder, an input that is not known, no ids, or no mask.
    """
    graph, found = model.graph, dict[str, str]()
    for value in [v for v in graph.inputs if v.is_initializer()]:
        graph.inputs.remove(value)  # before opset 13 weights were listed as inputs, too
    for value in graph.inputs:
        name = _canonical(str(value.name), origin)
        if value.shape is not None and len(value.shape) != 2:
            raise CheckpointError(
                f"{origin} takes {value.name} of shape {list(map(str, value.shape))}, and "
                "[batch, sequence] is needed. Pass the file of an encoder of texts."
            )
        found[name] = str(value.name)
    for name, remedy in (
        ("input_ids", "Pass the file of an encoder of texts."),
        (
            "attention_mask",
            "The logits of a row would depend on how far it is padded. Export the "
            "checkpoint again with it.",
        ),
    ):
        if name not in found:
            raise CheckpointError(
                f"{origin} takes {', '.join(found.values()) or 'nothing'}, and no {name}. {remedy}"
            )
    edit = Edit(model)
    for value in list(graph.inputs):
        _retype(edit, value, _canonical(str(value.name), origin))
    _compute_positions(edit, config)
    _drop_unread(graph, origin)
    order = list(_NAMES)
    values = sorted(graph.inputs, key=lambda value: order.index(str(value.name)))
    graph.inputs.clear()
    graph.inputs.extend(values)
    edit.finish()
    return found


def _drop_unread(graph: ir.Graph, origin: str) -> None:
    """Drop inputs that no node reads, as types of a model that has one type.

    Raises:
        CheckpointError: the mask is one of them.
    """
    for value in [value for value in graph.inputs if not value.uses()]:
        if value.name == "attention_mask":
            raise CheckpointError(
                f"{origin} does not read its attention_mask, so that the logits of a row depend on "
                "how far it is padded. Pass the file of an encoder such as BERT, RoBERTa, DeBERTa "
                "or ModernBERT."
            )
        graph.inputs.remove(value)


def _canonical(name: str, origin: str) -> str:
    plain = name.partition(":")[0].lower()
    for canonical, others in _NAMES.items():
        if plain in others:
            return canonical
    if plain.startswith(_DECODER):
        raise CheckpointError(
            f"{origin} takes {name}: it is a decoder, or the half of one, and qdeploy exports "
            "encoders. Pass the file of an encoder such as BERT, RoBERTa, DeBERTa or ModernBERT."
        )
    raise CheckpointError(
        f"{origin} takes {name}, which is none of {', '.join(_NAMES)}. Pass the file of an encoder "
        "of texts, or export it again with these names (`input_names=` of torch.onnx.export)."
    )


def _retype(edit: Edit, value: ir.Value, name: str) -> None:
    """int64 [batch, sequence]; readers of another type get a cast."""
    given = value.dtype or ir.DataType.INT64
    if str(value.name) != name:
        value.name = edit.unique(name)
    value.shape = ir.Shape([BATCH, SEQUENCE])
    if given == ir.DataType.INT64:
        return
    value.type = ir.TensorType(ir.DataType.INT64)
    cast: ir.Value | None = None
    for node in readers(value):
        for at, read in enumerate(node.inputs):
            if read is not value or (given in _INTEGERS and _takes_any(node, at)):
                continue
            if cast is None:
                cast = edit.add("Cast", [value], name=f"{name}/Cast", to=given.value)
                cast.type, cast.shape = ir.TensorType(given), ir.Shape([BATCH, SEQUENCE])
            node.replace_input_with(at, cast)


def _takes_any(node: ir.Node, at: int) -> bool:
    return is_standard(node, "Cast", "Shape") or (is_standard(node, "Gather") and at == 1)


def _compute_positions(edit: Edit, config: Mapping[str, object]) -> None:
    """Positions as transformers counts them where nobody gives any."""
    inputs = {str(value.name): value for value in edit.graph.inputs}
    positions = inputs.get("position_ids")
    if positions is None:
        return
    ids = inputs["input_ids"]
    padding = counted_from(config)
    if padding is not None:
        new = _counted(edit, ids, padding)
    else:  # operators as opset 11 has them
        zero, one = (edit.constant("positions/number", np.array(n, np.int64)) for n in (0, 1))
        whole = edit.add("Shape", [ids], name="positions/Shape")
        stop = edit.add("Gather", [whole, one], name="positions/Gather", axis=0)
        row = edit.add("Range", [zero, stop, one], name="positions/Range")
        new = edit.add("Expand", [row, whole], name="positions/Expand")
    positions.replace_all_uses_with(new)
    edit.graph.inputs.remove(positions)


def _counted(edit: Edit, ids: ir.Value, padding: int) -> ir.Value:
    """padding + 1, padding + 2, … of real tokens, and padding elsewhere, int64 [B, S]."""
    token = edit.constant("positions/padding", np.array(padding, np.int64))
    same = edit.add("Equal", [ids, token], name="positions/Equal")
    real = edit.add("Not", [same], name="positions/Not")
    real = edit.add("Cast", [real], name="positions/Cast", to=ir.DataType.INT64.value)
    axis = edit.constant("positions/axis", np.array(1, np.int64))
    count = edit.add("CumSum", [real, axis], name="positions/CumSum")
    count = edit.add("Mul", [count, real], name="positions/Mul")
    return edit.add("Add", [count, token], name="positions/Add")
