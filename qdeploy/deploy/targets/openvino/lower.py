"""Lowering for OpenVINO on the CPU: each planned GEMM becomes a MatMul between Q/DQ pairs.

OpenVINO's low-precision transformations turn DequantizeLinear → MatMul ← DequantizeLinear into one
INT8 FullyConnected, with bias, residual sum and activation function behind it inside. Symmetric
ranges are int8; asymmetric ones uint8 with a zero point, which runs as fast. Codes that are joined
before they are dequantized (a group as repeated rows, docs/adr/0003) keep their kernel.
"""

from __future__ import annotations

import onnx_ir as ir

from qdeploy.calibrate.plan import Dynamic, Plan
from qdeploy.deploy.lowering.groups import GemmConstraints
from qdeploy.deploy.lowering.lowered import Lowered
from qdeploy.deploy.lowering.qdq import QdqLowering
from qdeploy.errors import TargetError
from qdeploy.graph.editor import GraphEditor
from qdeploy.graph.structure import Structure


def lower(model: ir.Model, plan: Plan, structure: Structure, tokens: int = 1) -> Lowered:
    """The graph of a plan for OpenVINO. `model` is consumed.

    Args:
        model: canonical graph, or its permuted form.
        plan: with channel indices of that same graph.
        structure: of that same graph.
        tokens: rows times tokens of a run; changes nothing here.

    Returns:
        The graph, in standard ONNX.

    Raises:
        TargetError: ranges found at run time, which OpenVINO's CPU plugin does not have for GEMMs.
    """
    if any(isinstance(site.treatment, Dynamic) for site in plan.sites.values()):
        raise TargetError(
            "openvino has no GEMM with ranges found at run time (strategy dynamic). Build w8a8 or "
            "peg, which calibrate, or take --target ort-cpu."
        )
    lowering = _OpenVino(model, plan, structure, tokens)
    _part_key_transposes(lowering.editor)
    return lowering.run()


def _part_key_transposes(editor: GraphEditor) -> None:
    """Transpose keys to [B, heads, S, d] first, and to [B, heads, d, S] in a step of its own.

    OpenVINO takes the second into the product with the queries, and the first into the kernel of
    the whole attention; one Transpose that does both stays outside (docs/targets.md).
    """
    for node in list(editor.graph):
        if node.op_type != "Transpose":
            continue
        if list(node.attributes.get_ints("perm", ())) != [0, 2, 3, 1]:
            continue
        # The second operand of the scores, and nothing else: other readers need the one Transpose.
        if [(use.node.op_type, use.idx) for use in node.outputs[0].uses()] != [("MatMul", 1)]:
            continue
        name = str(node.name)
        heads = editor.node("Transpose", [node.inputs[0]], f"{name}/heads", perm=[0, 2, 1, 3])
        turned = editor.node("Transpose", [heads.outputs[0]], f"{name}/turn", perm=[0, 1, 3, 2])
        editor.replace_uses(node.outputs[0], turned.outputs[0], besides=set())


class _OpenVino(QdqLowering):
    fits_16_bits = True
    cuts = GemmConstraints(least=2)  # of a single row or column it makes a multiplication in float
