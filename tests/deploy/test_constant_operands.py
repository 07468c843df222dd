"""Operands that look computed and are constant: they hang on shapes, types, a loop's pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qdeploy.deploy.certify_file import certify_file
from qdeploy.deploy.product_flops import count_products
from qdeploy.graph.products import find_products
from tests.onnx_text import read_model

BATCH, TOKENS, HIDDEN, LAYERS = 2, 3, 32, 5
ONE = 2 * BATCH * TOKENS * HIDDEN**2  # operations of one product [B, S, H] x [H, H]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(BATCH, TOKENS, HIDDEN)).astype(np.float32)


def floats(*shape: int) -> Any:
    return (RNG.normal(size=shape) / HIDDEN**0.5).astype(np.float32)


def written(
    folder: Path, nodes: str, constants: dict[str, Any], others: str = "", **external: Any
) -> Path:
    inputs = f"float[batch, sequence, {HIDDEN}] x{others}"
    path = folder / "model.onnx"
    onnx.save(read_model(f"({inputs}) => (float[] y) {{ {nodes} }}", constants), path, **external)
    return path


# A table [64, H] that is cut to the tokens of the row, times a weight.
BY_SHAPE = """
    tokens = Shape<start = 1, end = 2>(x)
    cut = Slice(table, zero, tokens)
    ["table by weight"] keys = MatMul(cut, w)
    turned = Transpose<perm = [1, 0]>(keys)
    ["row by table"] y = MatMul(x, turned)
"""


def test_tables_that_are_cut_to_the_length_of_a_row(tmp_path: Path) -> None:
    """DeBERTa's relative positions: they are computed in every run, and hold weights alone."""
    constants = {"table": floats(64, HIDDEN), "zero": [0], "w": floats(HIDDEN, HIDDEN)}
    count = count_products(written(tmp_path, BY_SHAPE, constants), {"x": X})
    found = {counted.product.name: counted.flops for counted in count.products}
    table, row = 2 * TOKENS * HIDDEN**2, 2 * BATCH * TOKENS * HIDDEN * TOKENS
    assert found == {"table by weight": table, "row by table": row}


@pytest.mark.parametrize(
    "nodes",
    [
        "one = Shape<start = 2, end = 3>(x) v = Expand(w, one)",
        "v = CastLike(w, x)",
        """
        h = Shape<start = 2, end = 3>(x)
        square = Concat<axis = 0>(h, h)
        zeros = ConstantOfShape(square)
        v = Add(zeros, w)
        """,
    ],
    ids=["Expand", "CastLike", "ConstantOfShape"],
)
def test_what_reads_a_shape_or_a_type_stays_constant(nodes: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"{nodes} [gemm] y = MatMul(x, v)", {"w": floats(HIDDEN, HIDDEN)})
    assert count_products(path, {"x": X}).flops == ONE
    assert certify_file(path)["gemms"]["gemm"]["planned"] == "float"


# The weights of all layers in one tensor, which a Scan takes one by one.
SCAN = """
    y, maxima = Scan<
        num_scan_inputs = 1,
        body = body (float[] state, float[] layer) => (float[] next, float[] seen) {
            ["layer of the scan"] next = MatMul(state, layer)
            seen = ReduceMax<keepdims = 0>(next)
        }
    >(x, all)
"""
# The same in a Loop, picked by the number of the pass; {} takes what bounds the passes.
GATHER = """
    y = Loop<
        body = body (int64 pass, bool go, float[] state) => (bool on, float[] next) {{
            on = Identity(go)
            picked = Gather(all, pass)
            [layer] next = MatMul(state, picked)
        }}
    >({}, x)
"""
# A weight that is its own state.
STATE = """
    y, last = Loop<
        body = body (int64 pass, bool go, float[] state, float[] w)
            => (bool on, float[] next, float[] w_next)
        {
            on = Identity(go)
            [layer] next = MatMul(state, w)
            w_next = Neg(w)
        }
    >(times, , x, first)
"""
WEIGHTS = {"all": floats(LAYERS, HIDDEN, HIDDEN), "first": floats(HIDDEN, HIDDEN)}


@pytest.mark.parametrize(
    ("nodes", "weight"),
    [(SCAN, "all"), (GATHER.format("times, "), "all"), (STATE, "first")],
    ids=["scan", "gather", "state"],
)
def test_weights_that_a_loop_takes_one_by_one(nodes: str, weight: str, tmp_path: Path) -> None:
    path = written(tmp_path, nodes, {"times": np.array(LAYERS), weight: WEIGHTS[weight]})
    assert count_products(path, {"x": X}).flops == LAYERS * ONE


def test_a_state_that_becomes_data_is_no_weight(tmp_path: Path) -> None:
    """It is constant in the first pass alone."""
    nodes = """
        last, all = Loop<
            body = body (int64 pass, bool go, float[] state)
                => (bool on, float[] next, float[] y_next)
            {
                on = Identity(go)
                ["data by data"] y_next = MatMul(x, state)
                mean = ReduceMean<keepdims = 0>(x, axes)
                next = Add(state, mean)
            }
        >(times, , w)
        y = ReduceMean<keepdims = 0>(all)
    """
    constants = {"times": np.array(2), "w": floats(HIDDEN, HIDDEN), "axes": np.array([0, 1])}
    assert find_products(ir.load(written(tmp_path, nodes, constants))) == []


@pytest.mark.parametrize(
    ("bound", "extra"),
    [("n, ", ", int64 n"), ("times, go_on", ", bool go_on")],
    ids=["trips", "condition"],
)
def test_a_loop_that_these_inputs_do_not_run_counts_once(
    bound: str, extra: str, tmp_path: Path
) -> None:
    constants = {"times": np.array(LAYERS), "all": WEIGHTS["all"]}
    path = written(tmp_path, GATHER.format(bound), constants, extra)
    feeds: dict[str, Any] = {"x": X, "n": np.array(0, np.int64), "go_on": np.array(False)}
    (counted,) = count_products(path, feeds).products
    assert not counted.ran and counted.flops > 0


def test_rows_that_these_inputs_do_not_have_are_estimated(tmp_path: Path) -> None:
    nodes = """
        large = Greater(x, much)
        places = NonZero(large)
        rows = Transpose<perm = [1, 0]>(places)
        chosen = Cast<to = 1>(rows)
        ["rows that may be none"] y = MatMul(chosen, w)
    """
    path = written(tmp_path, nodes, {"much": np.float32(1e9), "w": floats(3, HIDDEN)})
    (counted,) = count_products(path, {"x": X}).products
    assert not counted.ran and counted.flops == 2 * BATCH * TOKENS * 3 * HIDDEN


def test_weights_in_attributes_are_named(tmp_path: Path) -> None:
    nodes = f"""
        rows = ReduceMean<keepdims = 0>(x, axis)
        [classical] y = ai.onnx.ml.LinearRegressor<
            targets = 1, coefficients = {[0.1] * HIDDEN}
        >(rows)
    """
    report = certify_file(written(tmp_path, nodes, {"axis": np.array([1])}))
    (left,) = report["unplanned"]
    assert left["flops_share"] == 1.0 and "is not judged" in left["reason"]


@pytest.mark.parametrize("name", ["model.onnx.data", "model.onnx_data", "weights.bin"])
def test_weights_in_a_file_of_any_name(name: str, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "[gemm] y = MatMul(x, w)",
        {"w": floats(HIDDEN, HIDDEN)},
        save_as_external_data=True,
        location=name,
        size_threshold=10,
    )
    assert (tmp_path / name).is_file()
    assert certify_file(path)["gemms"]["gemm"]["kernel"] == "MatMul"
