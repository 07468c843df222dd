"""Which graphs become INT8 kernels in ONNX Runtime's CPU provider, and which silently do not.

Each test builds one GEMM as another tool would write it, opens it with default options, and looks
at the graph that ONNX Runtime really runs. They explain why the lowering writes its kernel out, and
tell when a new version of ONNX Runtime changes one of the facts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.deploy.certify_file import certify_file
from qdeploy.deploy.ort.kernels import INT8_KERNELS
from qdeploy.deploy.ort.profile import optimized_graph
from qdeploy.deploy.ort.session import open_session, session_options
from tests.deploy.toys import Toy, saved

K, N = 64, 48
RNG = np.random.default_rng(0)
CODES = RNG.integers(-127, 128, (K, N)).astype(np.int8)
COLUMN_SCALES = RNG.uniform(0.01, 0.02, N).astype(np.float32)
BIAS = RNG.normal(size=N).astype(np.float32)
SCALE, UINT8_ZERO, INT8_ZERO = np.float32(0.05), np.uint8(128), np.int8(0)


def uint8_qdq() -> ir.Model:
    """The form that works: uint8 per tensor, int8 weight per column, 3-D MatMul."""
    toy = Toy(("batch", "sequence", K))
    x = toy.dequantized(toy.x, "x", SCALE, UINT8_ZERO)
    weight = toy.int8_weight("weight", CODES, COLUMN_SCALES)
    return toy.model(toy.op("MatMul", x, weight, channels=N))


def int8_activations(readers: int) -> ir.Model:
    """The same with int8 activations, read by one GEMM or shared by several as Q, K and V do."""
    toy = Toy(("batch", "sequence", K))
    x = toy.dequantized(toy.x, "x", SCALE, INT8_ZERO)
    names = ["weight", "second", "third"][:readers]
    weights = [toy.int8_weight(name, CODES, COLUMN_SCALES) for name in names]
    products = [toy.op("MatMul", x, weight, channels=N) for weight in weights]
    return toy.model(toy.op("Sum", *products, channels=N))


def int8_activations_shared() -> ir.Model:
    """int8 activations that three GEMMs read."""
    return int8_activations(3)


def per_axis_activations() -> ir.Model:
    """One activation scale per channel, the obvious form of PEG."""
    toy = Toy(("batch", "sequence", K))
    scales, zeros = np.linspace(0.01, 0.1, K, dtype=np.float32), np.full(K, UINT8_ZERO)
    x = toy.dequantized(toy.x, "x", scales, zeros, axis=-1)
    weight = toy.int8_weight("weight", CODES, COLUMN_SCALES)
    return toy.model(toy.op("MatMul", x, weight, channels=N))


def flat_with_bias() -> ir.Model:
    """2-D MatMul and Add, as in a pooler."""
    toy = Toy(("batch", K))
    x = toy.dequantized(toy.x, "x", SCALE, UINT8_ZERO)
    product = toy.op("MatMul", x, toy.int8_weight("weight", CODES, COLUMN_SCALES), channels=N)
    return toy.model(toy.op("Add", product, toy.constant("bias", BIAS), channels=N))


def flat_without_bias() -> ir.Model:
    """2-D MatMul alone: it is the Add that spoils the one above."""
    toy = Toy(("batch", K))
    x = toy.dequantized(toy.x, "x", SCALE, UINT8_ZERO)
    weight = toy.int8_weight("weight", CODES, COLUMN_SCALES)
    return toy.model(toy.op("MatMul", x, weight, channels=N))


def weight_only() -> ir.Model:
    """An int8 weight, and an activation that nobody quantized."""
    toy = Toy(("batch", "sequence", K))
    weight = toy.int8_weight("weight", CODES, COLUMN_SCALES)
    return toy.model(toy.op("MatMul", toy.op("Neg", toy.x, channels=K), weight, channels=N))


def fp16_typed() -> ir.Model:
    """FP16 data and FP16 scales, the form that TensorRT wants."""
    toy = Toy(("batch", "sequence", K))
    half = ir.DataType.FLOAT16
    x = toy.op("Cast", toy.x, to=int(half), dtype=half, channels=K)
    x = toy.dequantized(x, "x", np.float16(SCALE), UINT8_ZERO)
    weight = toy.int8_weight("weight", CODES, COLUMN_SCALES.astype(np.float16))
    product = toy.op("MatMul", x, weight, dtype=half, channels=N)
    return toy.model(toy.op("Cast", product, to=int(ir.DataType.FLOAT), channels=N))


def slices_of_groups() -> ir.Model:
    """Two channel slices, each with its own scale and MatMul, and a Sum."""
    toy = Toy(("batch", "sequence", K))
    parts = []
    for name, start, end in (("first", 0, K // 2), ("second", K // 2, K)):
        bounds = [
            toy.constant(f"{name}.{part}", np.array([number], np.int64))
            for part, number in (("start", start), ("end", end), ("axis", 2))
        ]
        cut = toy.op("Slice", toy.x, *bounds, channels=K // 2)
        x = toy.dequantized(cut, name, SCALE, UINT8_ZERO)
        weight = toy.int8_weight(f"{name}.weight", CODES[start:end], COLUMN_SCALES)
        parts.append(toy.op("MatMul", x, weight, channels=N))
    return toy.model(toy.op("Sum", *parts, channels=N))


def dynamic() -> ir.Model:
    """DynamicQuantizeLinear, MatMulInteger, Cast and Mul."""
    toy = Toy(("batch", "sequence", K))
    codes = toy.op("DynamicQuantizeLinear", toy.x, name="q", outputs=3, dtype=ir.DataType.UINT8)
    node = codes.producer()
    assert node is not None
    scale, zero = node.outputs[1], node.outputs[2]
    weight, weight_zero = toy.constant("weight", CODES), toy.constant("zero", np.int8(0))
    weight_scale = toy.constant("weight.scale", COLUMN_SCALES)
    sums = toy.op("MatMulInteger", codes, weight, zero, weight_zero, dtype=ir.DataType.INT32)
    floats = toy.op("Cast", sums, to=int(ir.DataType.FLOAT), channels=N)
    scales = toy.op("Mul", scale, weight_scale)
    return toy.model(toy.op("Mul", floats, scales, channels=N))


def kernels(path: Path) -> Counter[str]:
    """Operator types of the graph that runs."""
    return Counter(node.op_type for node in optimized_graph(path).graph)


@pytest.mark.parametrize("build", [uint8_qdq, flat_without_bias])
def test_uint8_per_tensor_qdq_becomes_an_int8_kernel(
    build: Callable[[], ir.Model], tmp_path: Path
) -> None:
    path = saved(build(), tmp_path / "toy.onnx")
    assert kernels(path)["MatMulIntegerToFloat"] == 1
    assert kernels(path)["MatMul"] == 0
    report = certify_file(path)
    assert (report["planned"], report["executed"], report["fallbacks"]) == (1, 1, [])
    assert report["flops_share"] == 1.0


@pytest.mark.parametrize(
    ("build", "gemms", "kernel", "reason"),
    [
        (int8_activations_shared, 3, "MatMul", "its input is int8; where several products share"),
        (flat_with_bias, 1, "Gemm", "MatMul and Add were fused into a float Gemm"),
        (fp16_typed, 1, "MatMul", "its scales are FP16"),
        (weight_only, 1, "MatMulNBits", "its input is not quantized (weight-only)"),
    ],
)
def test_silently_float_and_the_judge_says_why(
    build: Callable[[], ir.Model], gemms: int, kernel: str, reason: str, tmp_path: Path
) -> None:
    path = saved(build(), tmp_path / "toy.onnx")
    assert not INT8_KERNELS & set(kernels(path))
    report = certify_file(path)
    assert (report["planned"], report["executed"], report["flops_share"]) == (gemms, 0, 0.0)
    for fallback in report["fallbacks"]:
        assert fallback["kernel"] == kernel
        assert reason in fallback["reason"]


def test_int8_activations_of_a_single_reader_do_become_int8(tmp_path: Path) -> None:
    """Only shared int8 activations fall back (1.31.1): ONNX Runtime turns a lone pair into uint8.

    Of the six GEMMs of a BERT layer Q, K and V share theirs, which is the half that stays float.
    """
    path = saved(int8_activations(1), tmp_path / "toy.onnx")
    assert kernels(path)["MatMulIntegerToFloat"] == 1
    assert certify_file(path)["executed"] == 1


def test_per_axis_activations_are_fused_into_a_kernel_that_refuses_them(tmp_path: Path) -> None:
    """Worse than a float MatMul (what older versions made of it): 1.31.1 loads and then fails."""
    path = saved(per_axis_activations(), tmp_path / "toy.onnx")
    assert kernels(path)["MatMulIntegerToFloat"] == 1
    (fallback,) = certify_file(path)["fallbacks"]
    assert "it loads and stops at the first run" in fallback["reason"]
    session = open_session(path, session_options(1))
    with pytest.raises(Exception, match="zero point must be a scalar"):
        session.run(None, {"x": np.ones((1, 2, K), np.float32)})


def test_slices_become_one_int8_kernel_each(tmp_path: Path) -> None:
    path = saved(slices_of_groups(), tmp_path / "toy.onnx")
    assert kernels(path)["MatMulIntegerToFloat"] == 2
    report = certify_file(path)
    assert (report["planned"], report["executed"]) == (2, 2)


def test_dynamic_quantization_becomes_one_kernel(tmp_path: Path) -> None:
    path = saved(dynamic(), tmp_path / "toy.onnx")
    assert kernels(path)["DynamicQuantizeMatMul"] == 1
    assert certify_file(path)["executed"] == 1


def turned_gemm() -> ir.Model:
    """A Gemm with its weight stored [N, K], one scale and zero point per row: N = 2 is not K."""
    toy = Toy(("batch", K))
    x = toy.dequantized(toy.x, "x", SCALE, UINT8_ZERO)
    codes = RNG.integers(-127, 128, (2, K)).astype(np.int8)
    scales, zeros = np.array([0.01, 0.02], np.float32), np.zeros(2, np.int8)
    stored = [toy.constant(f"weight.{i}", a) for i, a in enumerate((codes, scales, zeros))]
    weight = toy.op("DequantizeLinear", *stored, name="weight", channels=K, axis=0)
    bias = toy.constant("bias", np.zeros(2, np.float32))
    product = toy.op("Gemm", x, weight, bias, channels=2, transB=1)
    codes_out = toy.dequantized(product, "y", SCALE, UINT8_ZERO)
    return toy.model(toy.op("Neg", codes_out, channels=2))


def weight_rounded_in_the_graph() -> ir.Model:
    """A float weight behind QuantizeLinear and DequantizeLinear, which is folded at load."""
    toy = Toy(("batch", "sequence", K))
    x = toy.dequantized(toy.x, "x", SCALE, UINT8_ZERO)
    floats = toy.constant("weight", CODES * COLUMN_SCALES)
    steps = toy.constant("steps", COLUMN_SCALES), toy.constant("zeros", np.zeros(N, np.int8))
    codes = toy.op(
        "QuantizeLinear", floats, *steps, name="q", channels=N, dtype=ir.DataType.INT8, axis=1
    )
    weight = toy.op("DequantizeLinear", codes, *steps, name="dq", channels=N, axis=1)
    return toy.model(toy.op("MatMul", x, weight, channels=N))


def test_a_turned_weight_with_a_scale_per_row_is_judged(tmp_path: Path) -> None:
    report = certify_file(saved(turned_gemm(), tmp_path / "toy.onnx"))
    assert (report["planned"], report["executed"], report["fallbacks"]) == (1, 1, [])


def test_a_weight_that_is_rounded_in_the_graph_is_not_overlooked(tmp_path: Path) -> None:
    report = certify_file(saved(weight_rounded_in_the_graph(), tmp_path / "toy.onnx"))
    assert report["planned"] == 1


def test_scales_per_block_are_judged(tmp_path: Path) -> None:
    toy = Toy(("batch", "sequence", K))
    scales = np.full((2, N), 0.01, np.float32)
    stored = toy.constant("codes", CODES), toy.constant("scales", scales)
    weight = toy.op(
        "DequantizeLinear", *stored, name="weight", channels=N, axis=0, block_size=K // 2
    )
    report = certify_file(
        saved(toy.model(toy.op("MatMul", toy.x, weight, channels=N)), tmp_path / "b")
    )
    assert (report["planned"], report["executed"]) == (1, 0)
