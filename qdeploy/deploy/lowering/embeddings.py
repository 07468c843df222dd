"""Embedding tables as int8 with one scale per row.

Tables are half of a small encoder's bytes. Only the rows that a batch names are converted back, so
the int8 form costs no time. One scale per row (token), as rows differ far more than channels do.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.affine import quantize_weight
from qdeploy.calibrate.plan import Plan
from qdeploy.graph.constants import constant
from qdeploy.graph.editor import GraphEditor
from qdeploy.graph.structure import Structure


def lower_tables(editor: GraphEditor, plan: Plan, structure: Structure) -> None:
    """Replace Gather(table) by Gather(int8 rows) · Gather(scale of the row)."""
    nodes = {str(node.name): node for node in editor.graph}
    quantized: dict[str, tuple[ir.Value, ir.Value]] = {}
    for table in structure.tables:
        if table.name not in plan.tables:
            continue
        gather = nodes[table.node]
        # Several Gathers may read one table: its codes are stored once.
        if table.weight not in quantized:
            array = constant(editor.graph.initializers[table.weight])
            assert array is not None
            # A scale per column is what it makes, so the table is turned: a column is a token then.
            codes, scale = quantize_weight(array.astype(np.float32).T, per_channel=True)
            quantized[table.weight] = (
                editor.constant(f"{table.name}.int8", codes.T),
                editor.constant(f"{table.name}.scale", scale[:, None]),
            )
        rows, scales = quantized[table.weight]
        index = gather.inputs[1]
        picked = editor.node(
            "Gather", [rows, index], f"{table.name}/rows", axis=0, dtype=ir.DataType.INT8
        )
        scale_rows = editor.node("Gather", [scales, index], f"{table.name}/scales", axis=0)
        cast = editor.node(
            "Cast", [picked.outputs[0]], f"{table.name}/cast", to=int(ir.DataType.FLOAT)
        )
        product = editor.node(
            "Mul",
            [cast.outputs[0], scale_rows.outputs[0]],
            f"{table.name}/dequantize",
            like=gather.outputs[0],
        )
        editor.take_over(gather.outputs[0], product.outputs[0])
