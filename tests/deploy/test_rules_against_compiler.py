"""TensorRT's rules held against a TensorRT: what TensorRT-RTX makes of graphs that break one each.

Nothing runs here. Whether an engine that builds computes what the file says cannot be seen.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.deploy.rules import ADVICE, ERROR
from qdeploy.deploy.targets.tensorrt import forms, operators, rules
from qdeploy.deploy.targets.tensorrt.api import RTX
from tests.deploy.rule_graphs import (
    FP8_PAIR,
    INT4,
    INT8,
    Graph,
    K,
    N,
    Outcome,
    axes_of,
    cast_between,
    codes,
    compiled,
    cut_by_slice,
    cut_by_split,
    gather_of,
    gemm_with_bias,
    half,
    joined_tensors,
    norm,
    reshaped_then,
    scale_of_the_run,
    scores,
    toy,
    turned,
    turned_codes,
    two_types,
)
from tests.deploy.test_tensorrt_rules import gemm

rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
PARSER, BUILDER, FLOAT = Outcome.PARSER, Outcome.BUILDER, Outcome.FLOAT
IS_INT8, IS_FP8, BUILDS = Outcome.INT8, Outcome.FP8, Outcome.BUILDS
# Why a rule is an error though the compiler builds the graph.
NUMBERS = "the engine computes something else, which cannot be seen without a device"
STRICTER = "the documentation of TensorRT 10 and 11 is stricter"


class Case(NamedTuple):
    """A graph that breaks a rule, and what TensorRT-RTX 1.7.1 does with it."""

    rule: str
    severity: str
    what: str
    outcome: Outcome
    model: ir.Model
    why: str = ""
    capability: str = "8.6"


MICROSOFT = "com.microsoft"


def negated(g: Graph) -> ir.Value:
    return g.op("Neg", g.x, channels=K)


def integer_product(g: Graph) -> ir.Value:
    sums = g.op("MatMulInteger", codes(g), g.ones(K, N, kind=np.int8), dtype=ir.DataType.INT32)
    return g.op("Cast", sums, to=1)


def foreign(domain: str, operator: str) -> ir.Model:
    model = toy(lambda g: g.op(operator, g.x, channels=K))
    model.graph.node(0).domain = domain
    model.graph.opset_imports[domain] = 1
    return model


WEIGHT_SCALES: dict[str, Any] = {"weight_scale": np.full(K, 0.1, half), "weight_axis": 0}
PER_CHANNEL: dict[str, Any] = {
    "scale": np.full(K, 0.1, half),
    "zero": np.zeros(K, np.int8),
    "axis": {"axis": 2},
}
FLAT, TURNED = ("b", K), (1, "s", K)
BROKEN = [
    # operators
    Case(
        "operator",
        ERROR,
        "MatMulInteger",
        PARSER,
        toy(
            lambda g: g.op(
                "Cast",
                g.op(
                    "MatMulInteger", codes(g), g.ones(K, N, kind=np.int8), dtype=ir.DataType.INT32
                ),
                to=1,
            )
        ),
    ),
    Case(
        "operator", ERROR, "com.microsoft::FastGelu", PARSER, foreign("com.microsoft", "FastGelu")
    ),
    Case("operator", ADVICE, "com.microsoft::Gelu", BUILDS, foreign(MICROSOFT, "Gelu")),
    Case("operator", ERROR, "my.operators::Neg", BUILDS, foreign("my.operators", "Neg"), NUMBERS),
    Case(
        "constant-input",
        ERROR,
        "axes of the run",
        PARSER,
        toy(lambda g: g.op("Unsqueeze", g.x, axes_of(g, ranks=False))),
    ),
    Case(
        "constant-input",
        ERROR,
        "axes of the rank",
        BUILDS,
        toy(lambda g: g.op("Unsqueeze", g.x, axes_of(g, ranks=True))),
        STRICTER,
    ),
    Case("one-output", ERROR, "mean of a LayerNormalization, unread", PARSER, toy(norm("mean"))),
    Case("opset", ADVICE, "opset 8", BUILDS, toy(negated, opset=8)),
    Case("opset", ADVICE, "opset 26", BUILDS, toy(negated, opset=26)),
    # Q/DQ
    Case("opset", ADVICE, "FP16 scales in opset 18", IS_INT8, gemm(opset=18)),
    Case("constant-scale", ERROR, "a scale of the run", FLOAT, toy(scale_of_the_run)),
    Case("positive-scale", ERROR, "scale 0", PARSER, gemm(scale=half(0))),
    Case("positive-scale", ERROR, "scale below 0", PARSER, gemm(scale=half(-1))),
    Case("positive-scale", ERROR, "an infinite scale", IS_INT8, gemm(scale=half(np.inf)), NUMBERS),
    Case("normal-scale", ERROR, "FP16 scale 1e-6", IS_INT8, gemm(scale=half(1e-6)), NUMBERS),
    Case("float-bias", ERROR, "an int32 bias", PARSER, toy(gemm_with_bias(np.int32), FLAT)),
    Case("float-bias", ERROR, "an int32 bias, added", PARSER, toy(gemm_with_bias(np.int32, "Add"))),
    Case("float-bias", ADVICE, "an int8 bias", IS_INT8, toy(gemm_with_bias(np.int8), FLAT)),
    Case("signed", ERROR, "uint8, zero point 128", PARSER, gemm(zero=np.uint8(128))),
    Case("signed", ERROR, "uint8, zero point 0", IS_INT8, gemm(zero=np.uint8(0)), NUMBERS),
    Case(
        "code-type",
        ERROR,
        "int16",
        PARSER,
        toy(lambda g: g.product(g.pair(zero=np.int16(0)), g.weight())),
    ),
    Case(
        "code-type",
        ERROR,
        "an int4 activation",
        FLOAT,
        toy(lambda g: g.product(g.pair(zero=INT4(0)), g.weight(kind=INT4))),
    ),
    Case("zero-point", ERROR, "int8, zero point 3", PARSER, gemm(zero=np.int8(3))),
    Case("per-tensor", ERROR, "a scale per channel of x", FLOAT, gemm(**PER_CHANNEL)),
    Case("output-axis", ERROR, "a scale per row of W", FLOAT, gemm(**WEIGHT_SCALES)),
    Case("output-axis", ERROR, "the same, transB", FLOAT, toy(turned(1, K), FLAT)),
    Case(
        "blocks",
        ERROR,
        "a scale per block of int8",
        BUILDER,
        toy(lambda g: g.quantized(g.blocks(np.int8))),
    ),
    Case("pair", ADVICE, "codes that leave the graph", BUILDS, toy(codes)),
    Case(
        "pair",
        ERROR,
        "codes that are cast",
        BUILDS,
        toy(lambda g: g.op("Cast", codes(g), to=1, channels=K)),
        STRICTER,
    ),
    Case(
        "pair",
        ERROR,
        "codes and codes",
        BUILDER,
        toy(lambda g: g.op("MatMul", codes(g), g.ones(K, N, kind=np.int8), dtype=INT8)),
    ),
    Case(
        "pair", ERROR, "an int8 weight, turned before DequantizeLinear", BUILDER, toy(turned_codes)
    ),
    Case(
        "one-type",
        ERROR,
        "FP16 and FP32 in a product",
        PARSER,
        gemm(weight_scale=np.full(N, 0.1, np.float32)),
    ),
    *(
        Case("one-type", ERROR, f"FP16 and FP32 in {op}", PARSER, toy(two_types(op)))
        for op in ("Add", "Max", "Sub", "Sum")
    ),
    *(
        Case(
            "one-type",
            ERROR,
            f"FP16 and FP32 in {op}",
            BUILDS,
            toy(two_types(op), opset=23),
            STRICTER,
        )
        for op in ("Pow", "RMSNormalization")
    ),
    # forms of products
    Case("both-inputs", ADVICE, "no pair of x", FLOAT, gemm(quantize=False)),
    Case("both-inputs", ADVICE, "no pair of W", FLOAT, gemm(quantize_weight=False)),
    Case(
        "both-inputs",
        ADVICE,
        "Relu behind the pair",
        FLOAT,
        toy(lambda g: g.product(g.op("Relu", g.pair(), channels=K), g.weight())),
    ),
    Case("attention", ADVICE, "one pair of two", FLOAT, toy(scores(both=False))),
    Case("attention", ADVICE, "two pairs", IS_INT8, toy(scores(both=True))),
    Case(
        "one-code",
        ERROR,
        "FP8 · int8",
        BUILDER,
        toy(lambda g: g.product(g.pair(**FP8_PAIR), g.weight())),
        capability="8.9",
    ),
    Case(
        "scale-types",
        ERROR,
        "FP32 scale, Cast · FP16 scale",
        BUILDER,
        toy(cast_between(np.float32, half)),
    ),
    Case(
        "scale-types",
        ERROR,
        "FP16 scale, Cast · FP32 scale",
        FLOAT,
        toy(cast_between(half, np.float32)),
    ),
    Case("joined-scales", ADVICE, "Concat of two scales", FLOAT, toy(joined_tensors(0.3))),
    Case(
        "computed-weight",
        ERROR,
        "Concat of two weights",
        BUILDER,
        toy(lambda g: g.quantized(g.op("Concat", g.weight(), g.weight("w2"), axis=1), 2 * N)),
    ),
    Case(
        "computed-weight",
        ERROR,
        "Concat of two weights, no pair of x",
        BUILDER,
        toy(lambda g: g.product(g.x, g.op("Concat", g.weight(), g.weight("w2"), axis=1), 2 * N)),
    ),
    Case("computed-weight", ADVICE, "Gather of columns", FLOAT, toy(gather_of(1, N))),
    Case(
        "computed-weight",
        ADVICE,
        "a factor per row",
        FLOAT,
        toy(lambda g: g.quantized(g.op("Mul", g.weight(), g.ones(K, 1)))),
    ),
    Case("joined-heads", ADVICE, "Split", FLOAT, toy(cut_by_split)),
    Case("joined-heads", ADVICE, "a bias, and Slice", FLOAT, toy(cut_by_slice)),
    *(
        Case("joined-heads", ADVICE, f"Reshape, and {op}", FLOAT, toy(reshaped_then(op)))
        for op in ("Gather", "Slice", "Split")
    ),
]


@pytest.mark.parametrize("case", BROKEN, ids=[f"{case.rule}: {case.what}" for case in BROKEN])
def test_what_the_compiler_does_with_a_broken_rule(case: Case, tmp_path: Path) -> None:
    assert (case.rule, case.severity) in {
        (broken.rule, broken.severity) for broken in rules.broken_rules(case.model)
    }
    outcome, text = compiled(case.model, tmp_path, case.capability)
    assert outcome is case.outcome, text
    if case.severity == ADVICE:
        assert outcome not in (PARSER, BUILDER), text
    elif outcome not in (PARSER, BUILDER, FLOAT):
        assert case.why in (NUMBERS, STRICTER), "the compiler takes it: mend the rule"


def test_every_rule_is_held_against_the_compiler() -> None:
    named = set()
    for module in (forms, operators, rules):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "BrokenRule":
                assert isinstance(node.args[0], ast.Constant)
                named.add(node.args[0].value)
    assert named == {case.rule for case in BROKEN}


def test_the_parser_knows_none_of_the_operators_that_it_is_said_not_to_know() -> None:
    logger = RTX.logger()
    builder = rtx.Builder(logger)
    network = builder.create_network(0)
    parser = rtx.OnnxParser(network, logger)
    assert parser.supports_operator("MatMul")
    named = {*operators._UNKNOWN, *operators.INTEGER} - {"MatMulInteger", "ConvInteger"}
    assert [name for name in named if parser.supports_operator(name)] == []
