"""What stands behind a value of a graph that no input reaches: its numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir


def constant_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of an initializer or of a Constant node; None for a computed value."""
    if value is None:
        return None
    try:
        return ir.convenience.get_const_tensor(value)
    except ValueError:  # a Constant node without a value, or with two
        return None


def constant(value: ir.Value | None) -> npt.NDArray[np.generic] | None:
    """The array of an initializer or of a Constant node; None for a computed value."""
    tensor = constant_tensor(value)
    return None if tensor is None else tensor.numpy()
