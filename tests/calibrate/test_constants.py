"""What counts as a constant, however a graph writes it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.graph.constants import constant
from qdeploy.graph.sites import find_structure

TEXT = """<ir_version: 10, opset_import: ["" : 20]>
agraph (float[B, 2, 4] x, float[B, 4, 2] keys) => (float[B, 2, 4] y)
<float[4, 4] weight = {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}>
{
   one = Constant <value = float[1] {1.0}> ()
   many = Constant <value_floats = [1.0, 2.0]> ()
   scores = MatMul (x, keys)
   shares = Softmax (scores)
   turned = Transpose <perm = [0, 2, 1]> (keys)
   mixed = MatMul (shares, turned)
   y = MatMul (mixed, weight)
}"""


@pytest.fixture
def model() -> ir.Model:
    model = ir.from_onnx_text(TEXT)
    for number, node in enumerate(model.graph):
        node.name = f"node{number}"
    return model


@pytest.mark.parametrize(
    ("name", "numbers"), [("one", [1.0]), ("many", [1.0, 2.0]), ("weight", np.eye(4).ravel())]
)
def test_an_initializer_and_a_constant_node_are_constants(
    model: ir.Model, name: str, numbers: list[float]
) -> None:
    found = constant(ir.convenience.create_value_mapping(model.graph)[name])
    assert found is not None
    assert found.ravel().tolist() == list(numbers)


@pytest.mark.parametrize("name", ["x", "scores"])
def test_what_is_computed_or_given_is_none(model: ir.Model, name: str) -> None:
    assert constant(ir.convenience.create_value_mapping(model.graph)[name]) is None
    assert constant(None) is None


@pytest.mark.parametrize("attributes", [{}, {"value_int": 1, "value_float": 1.0}])
def test_a_constant_node_that_breaks_the_rules_has_no_array(
    attributes: dict[str, int | float],
) -> None:
    node = ir.node("Constant", [], attributes)
    assert constant(node.outputs[0]) is None


def test_inputs_of_the_graph_are_no_sites(model: ir.Model) -> None:
    """They are operands of attention here, in one case as a Transpose of itself."""
    sites = {site.tensor for site in find_structure(model).sites}
    assert not sites & {"x", "keys"}
    assert {"shares", "turned", "mixed"} <= sites
