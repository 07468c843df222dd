"""Shapes in one form: where a graph computes one, batch and sequence are read from its input.

TorchScript's exporter reads sizes of a tensor anew in every layer, with a dozen operators each
(Shape, Gather, Unsqueeze, Concat, and ConstantOfShape, Equal and Where for an Expand). Every
number that they make was seen (`observe`): it is a constant, the batch, or the sequence. It is
written as such, as dynamo's exporter does, and the operators behind it have no reader left.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qdeploy.exporter.from_onnx.edit import Edit, array_of, is_standard, readers
from qdeploy.exporter.from_onnx.observe import Observed, Size

# Of shapes and constants they make linear functions of batch and sequence, whatever the sizes:
# no minimum, no division, whose result at small sizes says nothing of large ones.
_LINEAR = (
    *("Gather", "Slice", "Concat", "Unsqueeze", "Squeeze", "Reshape", "Cast", "Identity"),
    *("Add", "Sub", "Mul", "Neg", "ConstantOfShape", "Equal", "Where", "Expand", "Flatten"),
)
_CONSTANT, _BATCH, _SEQUENCE = (0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0)


def simplify_shapes(model: ir.Model, observed: Observed) -> None:
    """Rewrite integers that are functions of the batch's shape alone, in place.

    1. Assumes inputs [batch, sequence], `input_ids` among them.
    2. Recognizes int64 values with up to one dimension, made of shapes and constants by linear
       operators, that something else reads.
    3. Guarantees the same numbers for every batch: each is a constant, the batch or the sequence.
    4. Leaves those with a number of another kind (2·sequence − 1) as they are.
    """
    edit = Edit(model)
    ids = next(value for value in model.graph.inputs if value.name == "input_ids")
    sizes = _Sizes(edit, ids)
    inside = _shape_values(model.graph, observed)
    for value in inside:
        if value.is_graph_output() or all(r.outputs[0] in inside for r in readers(value)):
            continue
        numbers = observed.values.get(str(value.name))
        rank = len(observed.shapes.get(str(value.name), (None, None)))
        if numbers is None or rank > 1:
            continue
        wanted = _known(numbers) or _inferred(value, numbers)
        if wanted is not None:
            new = sizes.vector(wanted) if rank == 1 else sizes.scalar(wanted[0])
            value.replace_all_uses_with(new)
    edit.finish()


def _known(numbers: tuple[Size | None, ...]) -> tuple[Size, ...] | None:
    """The numbers, where each is a constant, the batch or the sequence."""
    good = [
        n for n in numbers if n is not None and (n[1:] == _CONSTANT or n in (_BATCH, _SEQUENCE))
    ]
    return tuple(good) if len(good) == len(numbers) else None


def _inferred(value: ir.Value, numbers: tuple[Size | None, ...]) -> tuple[Size, ...] | None:
    """The same for Reshapes alone, with −1 for the only number that is none of these."""
    others = [at for at, number in enumerate(numbers) if _known((number,)) is None]
    fixed = any(
        number is not None and number[0] in (-1, 0) and number[1:] == _CONSTANT
        for number in numbers
    )
    reshapes = all(is_standard(r, "Reshape") and r.inputs[1] is value for r in readers(value))
    if len(others) != 1 or fixed or not reshapes:
        return None
    free: Size = (-1, 0, 0, 0)
    return tuple(
        free if number is None or at in others else number for at, number in enumerate(numbers)
    )


def _shape_values(graph: ir.Graph, observed: Observed) -> dict[ir.Value, None]:
    """Numbers and vectors that shapes and constants alone decide, by linear operators, in order."""
    found: dict[ir.Value, None] = {}
    for node in graph:
        if len(observed.shapes.get(str(node.outputs[0].name), (None, None))) > 1:
            continue
        if is_standard(node, "Shape"):
            found[node.outputs[0]] = None
        elif is_standard(node, *_LINEAR) and len(node.outputs) == 1:
            read = [value for value in node.inputs if value is not None]
            computed = [value for value in read if array_of(value) is None]
            if computed and all(value in found for value in computed):
                found[node.outputs[0]] = None
    return found


class _Sizes:
    """Batch and sequence as values of a graph, each vector of them made once."""

    def __init__(self, edit: Edit, ids: ir.Value) -> None:
        self._edit, self._ids = edit, ids
        self._made: dict[object, ir.Value] = {}

    def vector(self, numbers: tuple[Size, ...]) -> ir.Value:
        """int64 [N]."""
        if numbers not in self._made:
            self._made[numbers] = self._vector(numbers)
        return self._made[numbers]

    def scalar(self, number: Size) -> ir.Value:
        """int64 []."""
        key = ("scalar", number)
        if key not in self._made:
            if number[1:] == _CONSTANT:
                made = self._edit.constant("sizes/scalar", np.array(number[0], np.int64))
            else:
                made = self._edit.add("Squeeze", [self.vector((number,))], name="sizes/Squeeze")
                made.shape, made.type = ir.Shape([]), ir.TensorType(ir.DataType.INT64)
            self._made[key] = made
        return self._made[key]

    def _vector(self, numbers: tuple[Size, ...]) -> ir.Value:
        if all(number[1:] == _CONSTANT for number in numbers):
            return self._edit.integers("sizes/constant", [number[0] for number in numbers])
        if len(numbers) == 1:
            start = 0 if numbers[0] == _BATCH else 1
            made = self._edit.add(
                "Shape", [self._ids], name="sizes/Shape", start=start, end=start + 1
            )
        else:
            pieces = [self.vector((number,)) for number in numbers]
            made = self._edit.add("Concat", pieces, name="sizes/Concat", axis=0)
        made.shape, made.type = ir.Shape([len(numbers)]), ir.TensorType(ir.DataType.INT64)
        return made
