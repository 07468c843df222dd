"""Foreign files whose products are easily overlooked or taken for each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qdeploy.deploy.certify_file import certify_file
from tests.deploy.toys import Toy, saved
from tests.onnx_text import OPSETS, read_model

K = 64
RNG = np.random.default_rng(0)
CODES = RNG.integers(-127, 128, (K, K)).astype(np.int8)
SCALES = RNG.uniform(0.01, 0.02, K).astype(np.float32)
SCALE, ZERO = np.float32(0.05), np.uint8(128)


def judged(toy: Toy, output: ir.Value, folder: Path) -> Any:
    report = certify_file(saved(toy.model(output), folder / "toy.onnx"))
    assert report["flops_measured"]
    return report


def test_inputs_of_sixteen_bits_are_no_int8(tmp_path: Path) -> None:
    toy = Toy(("batch", "sequence", K))
    x = toy.dequantized(toy.x, "x", SCALE, np.uint16(32768))
    product = toy.op("MatMul", x, toy.int8_weight("weight", CODES, SCALES), channels=K)
    report = judged(toy, product, tmp_path)
    assert (report["planned"], report["executed"], report["flops_share"]) == (1, 0, 0.0)
    assert report["fallbacks"][0]["reason"] == "its input has 16 bits, and INT8 kernels take 8"


def test_weights_of_sixteen_bits_are_not_planned(tmp_path: Path) -> None:
    toy = Toy(("batch", "sequence", K))
    x = toy.dequantized(toy.x, "x", SCALE, ZERO)
    wide = toy.int8_weight("weight", CODES.astype(np.int16) * 99, SCALES)
    (zero,) = [value for value in toy._constants if value.name == "weight.zero"]
    zero.const_value = ir.Tensor(np.zeros(K, np.int16), name="weight.zero")
    zero.type = ir.TensorType(ir.DataType.INT16)
    report = judged(toy, toy.op("MatMul", x, wide, channels=K), tmp_path)
    assert (report["planned"], report["planned_share"]) == (0, 0.0)
    assert report["unplanned"][0]["reason"] == "its weight is not stored in 8 bits"


@pytest.mark.parametrize("rounded", [True, False])
def test_a_scale_per_block_is_the_cause_that_is_named(rounded: bool, tmp_path: Path) -> None:
    toy = Toy(("batch", "sequence", K))
    x = toy.dequantized(toy.x, "x", SCALE, ZERO) if rounded else toy.x
    scales = toy.constant("scales", np.full((2, K), 0.01, np.float32))
    weight = toy.op(
        "DequantizeLinear",
        toy.constant("codes", CODES),
        scales,
        name="weight",
        channels=K,
        axis=0,
        block_size=K // 2,
    )
    report = judged(toy, toy.op("MatMul", x, weight, channels=K), tmp_path)
    assert (report["planned"], report["executed"], report["flops_share"]) == (1, 0, 0.0)
    assert "a scale per block" in report["fallbacks"][0]["reason"]


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("level", [0, 4])
def test_weight_only_products_count_as_float(bits: int, level: int, tmp_path: Path) -> None:
    """MatMulNBits in operator form, beside a GEMM of its size that does run in INT8."""
    block, rng = 32, np.random.default_rng(1)
    stored = rng.integers(0, 256, (K, K // block, block * bits // 8)).astype(np.uint8)
    steps = np.full((K, K // block) if bits == 8 else (K * K // block,), 0.01, np.float32)
    nodes = f"""
        [q] q = QuantizeLinear(x, s, z)
        [d] d = DequantizeLinear(q, s, z)
        [w] w = DequantizeLinear<axis = 1>(codes, scales)
        [int8] a = MatMul(d, w)
        ["weight only"] y = com.microsoft.MatMulNBits<
            K = {K}, N = {K}, bits = {bits}, block_size = {block}, accuracy_level = {level}
        >(a, stored, steps)
    """
    constants = {"s": SCALE, "z": ZERO, "codes": CODES, "scales": SCALES}
    constants |= {"stored": stored, "steps": steps}
    report = certify_file(file_of(nodes, constants, tmp_path))
    assert (report["planned"], report["executed"]) == (1, 1)
    assert report["planned_share"] == report["flops_share"] == 0.5
    (left,) = report["unplanned"]
    assert left["site"] == "weight only" and f"in {bits} bits" in left["reason"]
    assert ("not judged" in left["reason"]) == (level == 4)


@pytest.mark.parametrize("int8_first", [True, False])
def test_equal_weights_are_told_apart(int8_first: bool, tmp_path: Path) -> None:
    """One reads codes, the other floats: half of the work is INT8, and it is named rightly."""
    toy = Toy(("batch", "sequence", K))
    rounded = toy.dequantized(toy.x, "x", SCALE, ZERO)
    inputs = {"int8": rounded, "float": toy.op("Neg", toy.x, channels=K)}
    order = ("int8", "float") if int8_first else ("float", "int8")
    products = {}
    for name in order:
        weight = toy.int8_weight(f"{name}.weight", CODES, SCALES)
        products[name] = toy.op("MatMul", inputs[name], weight, name=name, channels=K)
    report = judged(toy, toy.op("Sum", *products.values(), channels=K), tmp_path)
    assert (report["planned"], report["executed"], report["flops_share"]) == (2, 1, 0.5)
    assert report["gemms"]["int8"]["kernel"] == "MatMulIntegerToFloat"
    assert [fallback["site"] for fallback in report["fallbacks"]] == ["float"]


@pytest.mark.parametrize("same_input", [True, False])
def test_products_that_are_computed_once(same_input: bool, tmp_path: Path) -> None:
    """Equal weights over the same input are one kernel, and over two inputs they are two."""
    toy = Toy(("batch", "sequence", K))
    weight = toy.int8_weight("weight", CODES, SCALES)
    products: list[ir.Value] = []
    for name in ("first", "second"):
        source = toy.x if same_input else toy.op("Neg" if products else "Abs", toy.x, channels=K)
        x = toy.dequantized(source, name, SCALE, ZERO)
        products.append(toy.op("MatMul", x, weight, name=name, channels=K))
    report = judged(toy, toy.op("Sum", *products, channels=K), tmp_path)
    assert (report["planned"], report["executed"], report["flops_share"]) == (2, 2, 1.0)


def test_gemms_in_branches_are_judged(tmp_path: Path) -> None:
    """One branch multiplies codes and the other floats: both are work that a run may do."""
    nodes = """
        [m] m = ReduceMax<keepdims = 0>(x)
        [go] go = Greater(m, s)
        [if] y = If<
            then_branch = codes () => (float[] a) {
                [q] q = QuantizeLinear(x, s, z)
                [integers] i = MatMulInteger(q, codes, z)
                [f] f = Cast<to = 1>(i)
                [a] a = Mul(f, s)
            },
            else_branch = floats () => (float[] b) { [floats] b = MatMul(x, floats) }
        >(go)
    """
    constants = {"s": SCALE, "z": ZERO, "codes": CODES, "floats": CODES * SCALES}
    report = certify_file(file_of(nodes, constants, tmp_path))
    assert (report["planned"], report["executed"], report["flops_share"]) == (1, 1, 0.5)
    assert report["gemms"]["floats"]["planned"] == "float"


def test_a_file_that_does_not_run_on_plain_inputs_is_estimated_and_says_so(tmp_path: Path) -> None:
    nodes = "[gemm] a = MatMul(x, w) [reshape] y = Reshape(a, shape)"
    constants = {"w": CODES * SCALES, "shape": np.array([7, 11, K], np.int64)}
    report = certify_file(file_of(nodes, constants, tmp_path))
    assert not report["flops_measured"]
    assert "did not run" in report["flops_reason"]
    assert report["gemms"]["gemm"]["flops_share"] == 1.0
    assert report["summary"] == "no GEMM is planned in INT8"


def file_of(nodes: str, constants: dict[str, Any], folder: Path) -> Path:
    graph = f"(float[batch, sequence, {K}] x) => (float[] y) {{ {nodes} }}"
    path = folder / "model.onnx"
    onnx.save(read_model(graph, constants, OPSETS | {"": 21}), path)
    return path
