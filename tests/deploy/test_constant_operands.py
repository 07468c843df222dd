"""Operands that look computed and are constant: they hang on shapes, types, a loop's pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from qdeploy.deploy.certify_file import certify_file
from qdeploy.deploy.product_flops import count_products
from qdeploy.graph.products import find_products

BATCH, TOKENS, HIDDEN, LAYERS = 2, 3, 32, 5
ONE = 2 * BATCH * TOKENS * HIDDEN**2  # operations of one product [B, S, H] x [H, H]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(BATCH, TOKENS, HIDDEN)).astype(np.float32)


def floats(*shape: int) -> Any:
    return (RNG.normal(size=shape) / HIDDEN**0.5).astype(np.float32)


def written(
    folder: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    others: tuple[onnx.ValueInfoProto, ...] = (),
    **external: Any,
) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "sequence", HIDDEN])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    graph = helper.make_graph(nodes, "g", [x, *others], [y], stored)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 3)]
    path = folder / "model.onnx"
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(model, path, **external)
    return path


def info(name: str, kind: int = TensorProto.FLOAT, shape: Any = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def by_shape() -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """A table [64, H] that is cut to the tokens of the row, times a weight."""
    nodes = [
        helper.make_node("Shape", ["x"], ["tokens"], start=1, end=2),
        helper.make_node("Slice", ["table", "zero", "tokens"], ["cut"]),
        helper.make_node("MatMul", ["cut", "w"], ["keys"], "table by weight"),
        helper.make_node("Transpose", ["keys"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["y"], "row by table"),
    ]
    zero = np.zeros(1, np.int64)
    return nodes, {"table": floats(64, HIDDEN), "zero": zero, "w": floats(HIDDEN, HIDDEN)}


def test_tables_that_are_cut_to_the_length_of_a_row(tmp_path: Path) -> None:
    """DeBERTa's relative positions: they are computed in every run, and hold weights alone."""
    count = count_products(written(tmp_path, *by_shape()), {"x": X})
    found = {counted.product.name: counted.flops for counted in count.products}
    table, row = 2 * TOKENS * HIDDEN**2, 2 * BATCH * TOKENS * HIDDEN * TOKENS
    assert found == {"table by weight": table, "row by table": row}


@pytest.mark.parametrize("operator", ["Expand", "CastLike", "ConstantOfShape"])
def test_what_reads_a_shape_or_a_type_stays_constant(operator: str, tmp_path: Path) -> None:
    if operator == "CastLike":
        nodes = [helper.make_node("CastLike", ["w", "x"], ["v"])]
    elif operator == "Expand":
        nodes = [
            helper.make_node("Shape", ["x"], ["one"], start=2, end=3),
            helper.make_node("Expand", ["w", "one"], ["v"]),
        ]
    else:
        nodes = [
            helper.make_node("Shape", ["x"], ["h"], start=2, end=3),
            helper.make_node("Concat", ["h", "h"], ["square"], axis=0),
            helper.make_node("ConstantOfShape", ["square"], ["zeros"]),
            helper.make_node("Add", ["zeros", "w"], ["v"]),
        ]
    nodes.append(helper.make_node("MatMul", ["x", "v"], ["y"], "gemm"))
    path = written(tmp_path, nodes, {"w": floats(HIDDEN, HIDDEN)})
    assert count_products(path, {"x": X}).flops == ONE
    assert certify_file(path)["gemms"]["gemm"]["planned"] == "float"


def scan() -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """The weights of all layers in one tensor, which a Scan takes one by one."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "layer"], ["next"], "layer of the scan"),
            helper.make_node("ReduceMax", ["next"], ["seen"], keepdims=0),
        ],
        "body",
        [info("state"), info("layer")],
        [info("next"), info("seen")],
    )
    node = helper.make_node("Scan", ["x", "all"], ["y", "maxima"], body=body, num_scan_inputs=1)
    return [node], {"all": floats(LAYERS, HIDDEN, HIDDEN)}


def loop(carried: bool) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """The same in a Loop: picked by the number of the pass, or a weight that is its own state."""
    inner = [helper.make_node("Identity", ["go"], ["on"])]
    states, ends, start, results = [info("state")], [info("next")], ["x"], ["y"]
    if carried:
        inner += [
            helper.make_node("MatMul", ["state", "w"], ["next"], "layer"),
            helper.make_node("Neg", ["w"], ["w_next"]),
        ]
        states, ends = [*states, info("w")], [*ends, info("w_next")]
        start, results = ["x", "first"], ["y", "last"]
    else:
        inner += [
            helper.make_node("Gather", ["all", "pass"], ["picked"]),
            helper.make_node("MatMul", ["state", "picked"], ["next"], "layer"),
        ]
    kinds = [info("pass", TensorProto.INT64, []), info("go", TensorProto.BOOL, [])]
    body = helper.make_graph(inner, "body", [*kinds, *states], [info("on", 9, []), *ends])
    node = helper.make_node("Loop", ["times", "", *start], results, body=body)
    weight = {"first": floats(HIDDEN, HIDDEN)} if carried else {"all": floats(5, HIDDEN, HIDDEN)}
    return [node], {"times": np.array(LAYERS, np.int64)} | weight


@pytest.mark.parametrize("form", ["scan", "gather", "state"])
def test_weights_that_a_loop_takes_one_by_one(form: str, tmp_path: Path) -> None:
    nodes, constants = scan() if form == "scan" else loop(form == "state")
    count = count_products(written(tmp_path, nodes, constants), {"x": X})
    assert count.flops == LAYERS * ONE


def test_a_state_that_becomes_data_is_no_weight(tmp_path: Path) -> None:
    """It is constant in the first pass alone."""
    inner = [
        helper.make_node("Identity", ["go"], ["on"]),
        helper.make_node("MatMul", ["x", "state"], ["y_next"], "data by data"),
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
        helper.make_node("Add", ["state", "mean"], ["next"]),
    ]
    body = helper.make_graph(
        inner,
        "body",
        [info("pass", 7, []), info("go", 9, []), info("state")],
        [info("on", 9, []), info("next"), info("y_next")],
    )
    node = helper.make_node("Loop", ["times", "", "w"], ["last", "all"], body=body)
    end = helper.make_node("ReduceMean", ["all"], ["y"], keepdims=0)
    constants = {"times": np.array(2), "w": floats(HIDDEN, HIDDEN), "axes": np.array([0, 1])}
    path = written(tmp_path, [node, end], constants)
    assert find_products(ir.load(path)) == []


@pytest.mark.parametrize("how", ["trips", "condition"])
def test_a_loop_that_these_inputs_do_not_run_counts_once(how: str, tmp_path: Path) -> None:
    nodes, constants = loop(carried=False)
    if how == "trips":
        nodes[0].input[0], others = "n", (info("n", TensorProto.INT64, []),)
    else:
        nodes[0].input[1], others = "go_on", (info("go_on", TensorProto.BOOL, []),)
    path = written(tmp_path, nodes, constants, others)
    feeds: dict[str, Any] = {"x": X, "n": np.array(0, np.int64), "go_on": np.array(False)}
    (counted,) = count_products(path, feeds).products
    assert not counted.ran and counted.flops > 0


def test_rows_that_these_inputs_do_not_have_are_estimated(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Greater", ["x", "much"], ["large"]),
        helper.make_node("NonZero", ["large"], ["places"]),
        helper.make_node("Transpose", ["places"], ["rows"], perm=[1, 0]),
        helper.make_node("Cast", ["rows"], ["chosen"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["chosen", "w"], ["y"], "rows that may be none"),
    ]
    path = written(tmp_path, nodes, {"much": np.float32(1e9), "w": floats(3, HIDDEN)})
    (counted,) = count_products(path, {"x": X}).products
    assert not counted.ran and counted.flops == 2 * BATCH * TOKENS * 3 * HIDDEN


def test_weights_in_attributes_are_named(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x", "axis"], ["rows"], keepdims=0),
        helper.make_node(
            "LinearRegressor",
            ["rows"],
            ["y"],
            "classical",
            domain="ai.onnx.ml",
            coefficients=[0.1] * HIDDEN,
            targets=1,
        ),
    ]
    report = certify_file(written(tmp_path, nodes, {"axis": np.array([1])}))
    (left,) = report["unplanned"]
    assert left["flops_share"] == 1.0 and "is not judged" in left["reason"]


@pytest.mark.parametrize("name", ["model.onnx.data", "model.onnx_data", "weights.bin"])
def test_weights_in_a_file_of_any_name(name: str, tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "gemm")]
    path = written(
        tmp_path,
        nodes,
        {"w": floats(HIDDEN, HIDDEN)},
        save_as_external_data=True,
        location=name,
        size_threshold=10,
    )
    assert (tmp_path / name).is_file()
    assert certify_file(path)["gemms"]["gemm"]["kernel"] == "MatMul"
