"""Attention without the guards that exporters put around a row that is padding alone.

torch's scaled_dot_product_attention is exported with scores of −∞ and a check for NaN behind the
softmax. A row with at least one real token never meets it. With the lowest finite number in the
place of −∞ there is no NaN to look for, and attention is a softmax between two products again.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qdeploy.exporter.from_onnx.edit import Edit, array_of, is_standard, number_of


def drop_guards(model: ir.Model) -> int:
    """Remove checks for NaN behind softmax, and set −∞ in masks to the lowest number, in place.

    1. Assumes that a row has a real token, as every text has.
    2. Recognizes Where(IsNaN(p), 0, p) of a softmax p, and constants of −∞ in a Where.
    3. Guarantees the same numbers for such rows.
    4. Leaves other checks.

    Returns:
        How many checks were removed.
    """
    edit, count = Edit(model), 0
    for node in [n for n in model.graph if is_standard(n, "Where")]:
        for at in (1, 2):
            array = array_of(node.inputs[at])
            if array is not None and array.dtype == np.float32 and np.isneginf(array).any():
                lowest = np.where(np.isneginf(array), np.finfo(np.float32).min, array)
                node.replace_input_with(
                    at, edit.constant(f"{node.name}/lowest", lowest.astype(np.float32))
                )
        guarded, check = node.inputs[2], node.inputs[0]
        checked = None if check is None else check.producer()
        if checked is None or guarded is None or not is_standard(checked, "IsNaN"):
            continue
        softmax = guarded.producer()
        of_softmax = softmax is not None and is_standard(softmax, "Softmax")
        if of_softmax and checked.inputs[0] is guarded and number_of(node.inputs[1]) == 0:
            edit.replace(node.outputs[0], guarded)
            count += 1
    edit.finish()
    return count
