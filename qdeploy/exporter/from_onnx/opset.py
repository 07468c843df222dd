"""Every file at the opset of the canonical graph, by ONNX's own converter."""

from __future__ import annotations

import logging

import onnx_ir as ir

from qdeploy.errors import CheckpointError
from qdeploy.exporter.from_onnx.edit import SCOPES, STANDARD

# The first with Gelu as one operator; `trace` exports checkpoints with the same.
OPSET = 20
LEAST = 11
# Operators that ONNX Runtime's optimizers write under ONNX's name before ONNX had them.
_EARLY = {"LayerNormalization": 17, "Gelu": 20, "SimplifiedLayerNormalization": 99}
_ASIDE = "qdeploy.aside"


def to_opset(model: ir.Model, origin: str) -> None:
    """Convert a graph to opset 20, in place; a later one stays.

    1. Assumes a graph without functions.
    2. Recognizes operators of ONNX; of other domains none is changed.
    3. Guarantees the same function.
    4. Leaves what stands there already.

    Raises:
        CheckpointError: opset 10 or below, or an operator that ONNX cannot convert.
    """
    found = model.opset_imports.get("", model.opset_imports.get("ai.onnx", OPSET))
    if found < LEAST:
        raise CheckpointError(
            f"{origin} is of opset {found}, and {LEAST} or later is needed. Export the checkpoint "
            "again, or pass the checkpoint itself."
        )
    if found >= OPSET:
        return
    aside = [
        node
        for node in model.graph
        if node.domain in STANDARD and found < _EARLY.get(node.op_type, 0)
    ]
    for node in aside:
        node.domain = _ASIDE
    others = {name: at for name, at in model.opset_imports.items() if name not in STANDARD}
    if aside:
        model.opset_imports[_ASIDE] = 1
    _fix_softmax(model, found)
    scopes = {
        node.name: node.metadata_props[SCOPES]
        for node in model.graph
        if SCOPES in node.metadata_props
    }
    _convert(model, origin, found)
    for node in model.graph:  # ONNX's converter drops what else a node says
        if node.name in scopes:
            node.metadata_props[SCOPES] = scopes[node.name]
    for node in model.graph:
        if node.domain == _ASIDE:
            node.domain = ""
    model.opset_imports.pop(_ASIDE, None)
    model.opset_imports.update(others)


def _convert(model: ir.Model, origin: str, found: int) -> None:
    from onnxscript import version_converter

    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        version_converter.convert_version(model, OPSET, fallback=True)
    except Exception as error:  # ONNX's own converter raises RuntimeError and others
        raise _refused(origin, found, error) from error
    finally:
        logger.setLevel(level)
    if model.opset_imports.get("") != OPSET:
        raise _refused(origin, found, None)


def _refused(origin: str, found: int, error: Exception | None) -> CheckpointError:
    reason = "" if error is None else f": {' '.join(str(error).split())[:200]}"
    return CheckpointError(
        f"ONNX cannot convert {origin} from opset {found} to {OPSET}{reason}. Export the "
        f"checkpoint again with opset {OPSET}, or pass the checkpoint itself."
    )


def _fix_softmax(model: ir.Model, found: int) -> None:
    """Below opset 13 a softmax runs over all axes from its own on: over the last one, the same."""
    if found >= 13:
        return
    for node in model.graph:
        if node.op_type in ("Softmax", "LogSoftmax") and node.inputs[0] is not None:
            shape, axis = node.inputs[0].shape, node.attributes.get_int("axis", 1)
            if shape is not None and axis in (-1, len(shape) - 1):
                node.attributes["axis"] = ir.AttrInt64("axis", -1)
