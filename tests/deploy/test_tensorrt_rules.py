"""TensorRT's rules, one by one, on graphs that break one each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.deploy.targets.tensorrt.rules import broken_rules
from tests.deploy.toys import Toy

K, N = 32, 16
HALF = np.float16
SCALE, ZERO = HALF(0.1), np.int8(0)
WEIGHT = np.ones((K, N), np.int8)


def gemm(
    *,
    scale: Any = SCALE,
    zero: Any = ZERO,
    weight_scale: Any = None,
    weight_axis: int = 1,
    opset: int = 21,
    quantize: bool = True,
    quantize_weight: bool = True,
    axis: dict[str, int] | None = None,
) -> ir.Model:
    """FP16: Q/DQ(x) · DQ(int8 weight)."""
    toy = Toy(("batch", "sequence", K), opset)
    x = toy.op("Cast", toy.x, to=10, channels=K, dtype=ir.DataType.FLOAT16)
    if quantize:
        x = toy.dequantized(x, "x", scale, zero, **(axis or {}))
    if quantize_weight:
        scales = np.full(N, 0.1, HALF) if weight_scale is None else weight_scale
        stored = toy.constant("weight", WEIGHT)
        pair = toy.constant("weight.scale", scales)
        assert pair.dtype is not None
        weight = toy.op(
            "DequantizeLinear", stored, pair, name="dq_w", dtype=pair.dtype, axis=weight_axis
        )
    else:
        weight = toy.constant("weight", WEIGHT.astype(HALF))
    y = toy.op("MatMul", x, weight, name="gemm", channels=N, dtype=ir.DataType.FLOAT16)
    return toy.model(y)


def rules(model: ir.Model) -> list[tuple[str, str]]:
    return [(found.rule, found.severity) for found in broken_rules(model)]


def test_a_graph_that_keeps_the_rules() -> None:
    assert rules(gemm()) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"zero": np.uint8(128)}, "signed"),
        ({"zero": np.int8(3)}, "zero-point"),
        ({"scale": HALF(0)}, "positive-scale"),
        ({"scale": HALF(np.inf)}, "positive-scale"),
        ({"scale": HALF(1e-6)}, "normal-scale"),
        ({"scale": np.full(K, 0.1, HALF), "zero": np.zeros(K, np.int8)}, "per-tensor"),
        ({"weight_scale": np.full(K, 0.1, HALF), "weight_axis": 0}, "output-axis"),
        ({"opset": 18}, "opset"),
    ],
)
def test_each_rule(change: dict[str, Any], found: str) -> None:
    broken = broken_rules(gemm(**change))
    assert found in {v.rule for v in broken}
    assert all(v.text and v.remedy for v in broken)
    assert all(v.severity == ("advice" if v.rule == "opset" else "error") for v in broken)


@pytest.mark.parametrize("side", ["quantize", "quantize_weight"])
def test_a_product_with_one_pair_runs_in_float(side: str) -> None:
    change: dict[str, Any] = {side: False}
    assert rules(gemm(**change)) == [("both-inputs", "advice")]


def test_types_do_not_mix() -> None:
    model = gemm(weight_scale=np.full(N, 0.1, np.float32))
    assert ("one-type", "error") in rules(model)


def test_a_scale_that_is_computed() -> None:
    toy = Toy(("batch", "sequence", K))
    scale = toy.op("ReduceMax", toy.x, name="max", keepdims=0)
    zero = toy.constant("zero", np.int8(0))
    codes = toy.op("QuantizeLinear", toy.x, scale, zero, channels=K, dtype=ir.DataType.INT8)
    y = toy.op("DequantizeLinear", codes, scale, zero, channels=K)
    assert rules(toy.model(y)) == [("constant-scale", "error")] * 2


@pytest.mark.parametrize("operator", ["MatMulInteger", "DynamicQuantizeLinear"])
def test_integer_operators(operator: str) -> None:
    toy = Toy(("batch", K))
    inputs = [toy.x]
    if operator == "MatMulInteger":
        inputs.append(toy.constant("weight", WEIGHT))
    y = toy.op(operator, *inputs, channels=N)
    assert ("operator", "error") in rules(toy.model(y))


@pytest.mark.parametrize("operator", ["BitShift", "Unique", "Compress"])
def test_operators_that_the_parser_does_not_know(operator: str) -> None:
    toy = Toy(("batch", "sequence", K))
    assert rules(toy.model(toy.op(operator, toy.x, channels=K))) == [("operator", "error")]


@pytest.mark.parametrize(
    ("computed", "found"), [(False, []), (True, [("constant-input", "error")])]
)
def test_axes_that_are_computed(computed: bool, found: list[tuple[str, str]]) -> None:
    toy = Toy(("batch", "sequence", K))
    axes = toy.constant("axes", np.array([0]))
    if computed:
        axes = toy.op("Shape", toy.x, dtype=ir.DataType.INT64)
    assert rules(toy.model(toy.op("Unsqueeze", toy.x, axes, channels=K))) == found


@pytest.mark.parametrize("used", [False, True])
def test_more_outputs_of_a_normalization(used: bool) -> None:
    toy = Toy(("batch", "sequence", K))
    scale = toy.constant("scale", np.ones(K, np.float32))
    y = toy.op("LayerNormalization", toy.x, scale, name="norm", channels=K, outputs=2)
    node = y.producer()
    assert node is not None
    node.outputs[1].dtype = ir.DataType.FLOAT
    last = toy.op("Add", y, node.outputs[1], channels=K) if used else toy.op("Neg", y, channels=K)
    model = toy.model(last)
    assert rules(model) == [("one-output", "error")]  # the parser refuses both
    if not used:  # named "", as ONNX leaves an output out
        node.outputs[1].name = ""
        assert rules(model) == []


@pytest.mark.parametrize(("opset", "found"), [(8, 1), (9, 0), (25, 0), (26, 1)])
def test_opsets(opset: int, found: int) -> None:
    toy = Toy(("batch", "sequence", K), opset)
    model = toy.model(toy.op("Neg", toy.op("Abs", toy.x, channels=K), channels=K))
    assert rules(model) == [("opset", "advice")] * found


def pair_without_zero(kind: ir.DataType | None) -> ir.Model:
    """Q/DQ whose type only the attribute `output_dtype` says, or nothing."""
    toy = Toy(("batch", "sequence", K))
    scale = toy.constant("scale", np.float32(0.1))
    said = {} if kind is None else {"output_dtype": int(kind)}
    codes = toy.op(
        "QuantizeLinear",
        toy.x,
        scale,
        name="q",
        channels=K,
        dtype=kind or ir.DataType.UINT8,
        **said,
    )
    return toy.model(toy.op("DequantizeLinear", codes, scale, name="dq", channels=K))


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (None, "signed"),  # ONNX's default
        (ir.DataType.UINT8, "signed"),
        (ir.DataType.INT16, "code-type"),
        (ir.DataType.INT8, ""),
        (ir.DataType.FLOAT8E4M3FN, ""),
    ],
)
def test_codes_whose_type_no_zero_point_says(kind: ir.DataType | None, rule: str) -> None:
    expected = [(rule, "error")] * 2 if rule else []
    assert rules(pair_without_zero(kind)) == expected


def test_types_are_inferred_where_a_file_does_not_say_them() -> None:
    model = gemm(scale=np.float32(0.1))
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.type = value.shape = None
    assert ("one-type", "error") in rules(model)


def test_an_int32_bias_that_is_added() -> None:
    toy = Toy(("batch", "sequence", K))
    stored = toy.constant("bias", np.ones(K, np.int32))
    scale = toy.constant("scale", np.float32(0.1))
    bias = toy.op("DequantizeLinear", stored, scale, name="dq")
    assert rules(toy.model(toy.op("Add", toy.x, bias, channels=K))) == [("float-bias", "error")]


def test_codes_that_leave_the_graph() -> None:
    toy = Toy(("batch", "sequence", K))
    pair = toy.constant("scale", np.float32(0.1)), toy.constant("zero", ZERO)
    codes = toy.op("QuantizeLinear", toy.x, *pair, channels=K, dtype=ir.DataType.INT8)
    assert rules(toy.model(codes)) == [("pair", "advice")]


def test_branches_and_other_domains_are_judged_too() -> None:
    toy = Toy(("batch", "sequence", K))
    inner = ir.node("MatMulInteger", [toy.x, toy.x], name="inner")
    branch = ir.Graph([], inner.outputs, nodes=[inner], name="branch")
    other = ir.node("MatMulInteger", [toy.x, toy.x], name="other")
    second = ir.Graph([], other.outputs, nodes=[other], name="second")
    which = toy.constant("which", np.array(True))
    y = toy.op("If", which, then_branch=branch, else_branch=second, channels=K)
    model = toy.model(y)
    assert rules(model) == [("operator", "error")] * 2
    toy = Toy(("batch", "sequence", K))
    y = toy.op("Neg", toy.x, name="foreign", channels=K)
    node = y.producer()
    assert node is not None
    node.domain = "my.operators"
    assert rules(toy.model(y)) == [("operator", "error")]


def test_a_node_without_a_name_is_told_by_what_it_computes() -> None:
    model = pair_without_zero(None)
    for node in model.graph:
        node.name = None
    assert broken_rules(model)[0].node.startswith("QuantizeLinear of ")


def test_a_weight_may_be_cast_and_turned_before_it_is_quantized() -> None:
    toy = Toy(("batch", "sequence", K))
    stored = toy.constant("weight", np.ones((N, K), np.float16))
    turned = toy.op("Transpose", stored, perm=[1, 0], dtype=ir.DataType.FLOAT16)
    wide = toy.op("Cast", turned, to=int(ir.DataType.FLOAT))
    pair = (
        toy.constant("scales", np.full(N, 0.1, np.float32)),
        toy.constant("zeros", np.zeros(N, np.int8)),
    )
    codes = toy.op("QuantizeLinear", wide, *pair, axis=1, dtype=ir.DataType.INT8)
    weight = toy.op("DequantizeLinear", codes, *pair, axis=1)
    x = toy.dequantized(toy.x, "x", np.float32(0.1), ZERO)
    assert rules(toy.model(toy.op("MatMul", x, weight, channels=N))) == []


def test_codes_that_are_not_dequantized() -> None:
    toy = Toy(("batch", K))
    pair = toy.constant("scale", np.float32(0.1)), toy.constant("zero", np.int8(0))
    codes = toy.op("QuantizeLinear", toy.x, *pair, channels=K, dtype=ir.DataType.INT8)
    shape = toy.constant("shape", np.array([-1]))
    moved = toy.op("Reshape", codes, shape, dtype=ir.DataType.INT8)
    y = toy.op("Cast", moved, to=1)
    assert rules(toy.model(y)) == [("pair", "error")]


def test_an_int8_constant_without_dequantize() -> None:
    toy = Toy(("batch", K))
    table = toy.constant("table", WEIGHT)
    y = toy.op("Gather", table, toy.constant("index", np.array(0)), dtype=ir.DataType.INT8)
    assert rules(toy.model(y)) == [("pair", "error")]


def test_a_quantized_bias() -> None:
    toy = Toy(("batch", K))
    weight = toy.constant("weight", WEIGHT.astype(np.float32))
    stored, scale = toy.constant("bias", np.ones(N, np.int8)), toy.constant("s", np.float32(0.1))
    bias = toy.op("DequantizeLinear", stored, scale, name="dq_b")
    y = toy.op("Gemm", toy.x, weight, bias, channels=N)
    assert ("float-bias", "advice") in rules(toy.model(y))


def test_a_half_quantized_attention_product() -> None:
    toy = Toy(("batch", "sequence", K))
    q = toy.dequantized(toy.x, "q", np.float32(0.1), np.int8(0))
    k = toy.op("Transpose", toy.x, perm=[0, 2, 1])
    y = toy.op("MatMul", q, k, name="scores")
    assert rules(toy.model(y)) == [("attention", "advice")]


def test_a_turned_weight_has_its_output_channels_first() -> None:
    for axis, expected in ((0, []), (1, [("output-axis", "error")])):
        toy = Toy(("batch", K))
        x = toy.dequantized(toy.x, "x", np.float32(0.1), np.int8(0))
        size = N if axis == 0 else K
        stored = toy.constant("weight", np.ones((N, K), np.int8))
        scale = toy.constant("scale", np.full(size, 0.1, np.float32))
        weight = toy.op("DequantizeLinear", stored, scale, name="dq", axis=axis)
        turned = toy.op("Transpose", weight, perm=[1, 0])
        assert rules(toy.model(toy.op("MatMul", x, turned, channels=N))) == expected


def test_constants_in_nodes_are_read_too() -> None:
    toy = Toy(("batch", K))
    zero = ir.node("Constant", [], {"value": ir.tensor(np.uint8(128))}, name="zero")
    zero.outputs[0].name = "zero.out"
    scale = toy.constant("scale", np.float32(0.1))
    codes = toy.op("QuantizeLinear", toy.x, scale, zero.outputs[0], channels=K)
    y = toy.op("DequantizeLinear", codes, scale, zero.outputs[0], channels=K)
    model = toy.model(y)
    model.graph.insert_before(model.graph.node(0), zero)
    assert ("signed", "error") in rules(model)
