"""Pairs of int8 weights that saturate in 16 bits are found, whatever form they are stored in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.calibrate.affine import quantize_weight
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.describe import describe
from qdeploy.deploy.lowering.lowered import Widened
from qdeploy.deploy.open import open_engine
from qdeploy.deploy.processors import holds_here
from qdeploy.deploy.saturation import pair_sums, processors_of
from qdeploy.errors import QDeployWarning, TargetError
from qdeploy.machine import processor
from qdeploy.schemas.certificate import Processors
from tests.deploy.conftest import Built, Source
from tests.deploy.toys import Array, Toy, saved
from tests.onnx_text import read_model

SHAPE = (2, 3, 8)


def _largest(codes: Array) -> int:
    """By the definition: two neighbours of one sign, both met by 255."""
    sums = [0]
    for k in range(0, codes.shape[0], 2):
        for n in range(codes.shape[1]):
            pair = [int(w) for w in codes[k : k + 2, n]]
            sums += [sum(w for w in pair if w > 0), -sum(w for w in pair if w < 0)]
    return max(sums)


def _int8_kernel(toy: Toy, codes: Array) -> ir.Value:
    scale, zero = toy.constant("s", np.float32(0.1)), toy.constant("z", np.uint8(128))
    rounded = toy.op("QuantizeLinear", toy.x, scale, zero, dtype=ir.DataType.UINT8)
    weight = toy.constant("w", codes)
    sums = toy.op("MatMulInteger", rounded, weight, zero, name="p", dtype=ir.DataType.INT32)
    return toy.op("Cast", sums, to=ir.DataType.FLOAT)


def _between_qdq(toy: Toy, codes: Array) -> ir.Value:
    x = toy.dequantized(toy.x, "x", np.float32(0.1), np.uint8(128))
    weight = toy.int8_weight("w", codes, np.full(codes.shape[1], 0.01, np.float32))
    return toy.op("MatMul", x, weight, name="p")


def _turned(toy: Toy, codes: Array) -> ir.Value:
    x = toy.dequantized(toy.x, "x", np.float32(0.1), np.uint8(128))
    stored = toy.constant("w", codes.T)
    back = toy.op("DequantizeLinear", stored, toy.constant("w.scale", np.float32(0.01)))
    return toy.op("MatMul", x, toy.op("Transpose", back, perm=[1, 0]), name="p")


def _gemm(toy: Toy, codes: Array) -> ir.Value:
    x = toy.dequantized(toy.x, "x", np.float32(0.1), np.uint8(128))
    flat = toy.op("Reshape", x, toy.constant("shape", np.array([-1, codes.shape[0]])))
    stored = toy.constant("w", codes.T)
    back = toy.op("DequantizeLinear", stored, toy.constant("w.scale", np.float32(0.01)))
    return toy.op("Gemm", flat, back, name="p", transB=1)


FORMS = [_int8_kernel, _between_qdq, _turned, _gemm]


@pytest.mark.parametrize("form", FORMS)
@given(seed=st.integers(0, 999), k=st.integers(1, 9), n=st.integers(1, 5))
def test_the_largest_pair_is_that_of_the_codes_as_they_are_multiplied(
    form: Callable[[Toy, Array], ir.Value], seed: int, k: int, n: int
) -> None:
    codes = np.random.default_rng(seed).integers(-128, 128, (k, n)).astype(np.int8)
    toy = Toy((2, 3, k))
    (found,) = pair_sums(toy.model(form(toy, codes)))
    assert (found.name, found.largest, found.columns) == ("p", _largest(codes), n)
    over = sum(_largest(codes[:, [column]]) > 128 for column in range(n))
    assert found.over == over
    assert found.fits == (over == 0)


def test_weights_of_uint8_are_not_added_in_16_bits() -> None:
    toy = Toy(SHAPE)
    model = toy.model(_int8_kernel(toy, np.full((8, 4), 255, np.uint8)))
    assert pair_sums(model) == []


def test_an_order_that_is_not_known_is_judged_by_the_largest_codes() -> None:
    codes = np.zeros((8, 4), np.int8)
    codes[0, 0], codes[7, 3] = 100, -100  # never neighbours, and of two signs
    toy = Toy(SHAPE)
    x = toy.dequantized(toy.x, "x", np.float32(0.1), np.uint8(128))
    back = toy.int8_weight("w", codes, np.full(4, 0.01, np.float32))
    shaped = toy.op("Reshape", back, toy.constant("shape", np.array([8, 4])))
    (found,) = pair_sums(toy.model(toy.op("MatMul", x, shaped, name="p")))
    assert (found.largest, found.fits) == (200, False)


def test_a_weight_of_several_constants_proves_nothing() -> None:
    toy = Toy(SHAPE)
    x = toy.dequantized(toy.x, "x", np.float32(0.1), np.uint8(128))
    halves = [
        toy.int8_weight(name, np.ones((8, 2), np.int8), np.full(2, 0.01, np.float32))
        for name in ("a", "b")
    ]
    joined = toy.op("Concat", *halves, axis=1)
    (found,) = pair_sums(toy.model(toy.op("MatMul", x, joined, name="p")))
    assert (found.name, found.largest, found.fits) == ("p", None, False)


def test_two_computed_operands_prove_nothing_unless_both_are_uint8() -> None:
    toy = Toy((2, 8, 8))
    unsigned = toy.dequantized(toy.x, "x", np.float32(0.1), np.uint8(128))
    signed = toy.dequantized(toy.x, "y", np.float32(0.1), np.int8(0))
    plain = toy.op("MatMul", unsigned, unsigned, name="u8")
    model = toy.model(toy.op("Add", plain, toy.op("MatMul", unsigned, signed, name="p")))
    found = processors_of(pair_sums(model))
    assert not found["proved"]
    assert found["saturating"] == [{"gemm": "p", "largest_pair": None, "columns_over": 0}]


@pytest.mark.parametrize("signed", [False, True])
def test_two_computed_operands_of_a_product_of_integers(signed: bool) -> None:
    """As ONNX Runtime's static quantization writes attention: its zero points tell the types."""
    toy, kind = Toy((2, 8, 8)), np.int8 if signed else np.uint8
    scale, dtype = toy.constant("s", np.float32(0.1)), ir.DataType.from_numpy(np.dtype(kind))
    zero, other = toy.constant("z", np.uint8(128)), toy.constant("o", kind(0))
    left = toy.op("QuantizeLinear", toy.x, scale, zero, dtype=ir.DataType.UINT8)
    right = toy.op("QuantizeLinear", toy.x, scale, other, dtype=dtype)
    turned = toy.op("Transpose", right, perm=[0, 2, 1], dtype=dtype)
    given = (left, scale, zero, turned, scale, other, scale, zero)
    product = toy.op("QLinearMatMul", *given, name="p", dtype=ir.DataType.UINT8)
    whole = toy.op("MatMulInteger", left, turned, zero, other, name="q", dtype=ir.DataType.INT32)
    model = toy.model(
        toy.op(
            "Add",
            toy.op("Cast", product, to=ir.DataType.FLOAT),
            toy.op("Cast", whole, to=ir.DataType.FLOAT),
        )
    )
    found = processors_of(pair_sums(model))
    assert [one["gemm"] for one in found["saturating"]] == (["p", "q"] if signed else [])


def test_a_graph_without_int8_has_nothing_to_prove() -> None:
    toy = Toy(SHAPE)
    model = toy.model(toy.op("MatMul", toy.x, toy.constant("w", np.ones((8, 4), np.float32))))
    found = processors_of(pair_sums(model))
    assert (found["proved"], found["products"]) == (True, 0)


# Forms in which an int8 operand is no plain initializer, each of sums of 254.
BAD = np.full((8, 8), 127, np.int8)
HIDDEN: dict[str, tuple[str, dict[str, Any]]] = {
    "Cast": (
        "(float[M,8] x) => (float[] y) { q, s, z = DynamicQuantizeLinear(x)"
        " b = Cast<to = 3>(w) i = MatMulInteger(q, b, z) y = Cast<to = 1>(i) }",
        {"w": BAD.astype(np.int32)},
    ),
    "Concat": (
        "(float[M,8] x) => (float[] y) { q, s, z = DynamicQuantizeLinear(x)"
        " a = Identity(w) b = Concat<axis = 0>(a, v) i = MatMulInteger(q, b, z)"
        " y = Cast<to = 1>(i) }",
        {"w": BAD[:4], "v": BAD[4:]},
    ),
    "first operand": (
        "(float[8,N] x) => (float[] y) { q = QuantizeLinear(x, s, zero)"
        " i = MatMulInteger(w, q) y = Cast<to = 1>(i) }",
        {"w": BAD.astype(np.uint8), "s": np.float32(0.1), "zero": np.int8(0)},
    ),
    "branch": (
        "(float[M,8] x, bool c) => (float[] y) { q, s, z = DynamicQuantizeLinear(x)"
        " i = If (c) <then_branch = t () => (int32[] a) { a = MatMulInteger(q, w, z) },"
        " else_branch = e () => (int32[] b) { b = MatMulInteger(q, w, z) }> y = Cast<to = 1>(i) }",
        {"w": BAD},
    ),
    "DynamicQuantizeMatMul": (
        "(float[M,8] x, float[8,N] k) => (float[] y) { b = QuantizeLinear(k, s, zero)"
        " y = com.microsoft.DynamicQuantizeMatMul(x, b, s, zero) }",
        {"s": np.float32(0.1), "zero": np.int8(0)},
    ),
}


@pytest.mark.parametrize("form", HIDDEN)
def test_no_form_of_an_int8_operand_is_called_proved(form: str, tmp_path: Path) -> None:
    text, constants = HIDDEN[form]
    path = tmp_path / "model.onnx"
    onnx.save(read_model(text, constants), path)
    found = describe(path)["processors"]
    assert found["products"] >= 1 and not found["proved"]


def _processors(*, proved: bool, made_on: str) -> Processors:
    bad: Any = [] if proved else [{"gemm": "p", "largest_pair": 200, "columns_over": 1}]
    return {
        "made_on": made_on,
        "proved": proved,
        "products": 1,
        "largest_pair": 128 if proved else 200,
        "pair_limit": 128,
        "saturating": bad,
        "summary": "text",
    }


@pytest.mark.parametrize(
    ("made_on", "here", "warned"),
    [
        ("avx512_vnni", "avx2", True),
        ("avx2", "avx512_vnni", True),
        ("amx_int8", "other", True),
        ("avx512_vnni", "arm64_i8mm", False),
        ("avx2", "avx512", False),
    ],
)
def test_processors_that_add_alike_give_the_same(made_on: str, here: str, warned: bool) -> None:
    found = holds_here(_processors(proved=False, made_on=made_on), here)
    assert (found is not None) == warned
    assert holds_here(_processors(proved=True, made_on=made_on), here) is None


@pytest.mark.parametrize("target", ["ort-cpu", "openvino"])
def test_every_processor_gives_the_same_sums_unless_one_is_asked_for(
    target: str, bert: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if target == "openvino":
        pytest.importorskip("openvino")
    monkeypatch.setattr("qdeploy.deploy.request.instruction_set", lambda: "avx512_vnni")
    found = {}
    for cpu in ("any", "native"):
        engine = tmp_path / cpu
        build_engine(
            bert.directory,
            engine,
            target=target,
            cpu=cpu,
            statistics=bert.statistics,
            measure=False,
        )
        found[cpu] = json.loads((engine / "certificate.json").read_text())["processors"]
    assert found["any"]["proved"]
    assert found["any"]["largest_pair"] <= 128 < found["native"]["largest_pair"]
    assert not found["native"]["proved"]
    assert len(found["native"]["saturating"]) > 0
    widened = found["any"]["widened"]
    assert 0 < widened["widened"] <= widened["columns"] and 0 < widened["noise_db"] < 6
    assert "widened" not in found["native"]
    plans = [json.loads((tmp_path / cpu / "plan.json").read_text()) for cpu in ("any", "native")]
    assert (
        sum(gemm["widened"] for gemm in plans[0]["widened_columns"].values())
        == (widened["widened"])
    )
    assert "widened_columns" not in plans[1]
    assert json.loads((tmp_path / "native" / "plan.json").read_text())["options"]["cpu"] == "native"


@pytest.mark.parametrize("per_channel", [True, False])
def test_columns_that_are_widened_are_counted(per_channel: bool) -> None:
    weight = np.random.default_rng(0).normal(size=(64, 24)).astype(np.float32)
    _, plain = quantize_weight(weight, per_channel=per_channel)
    _, scale = quantize_weight(weight, per_channel=per_channel, fits_16_bits=True)
    found = Widened.of(weight, scale)
    assert (found.columns, found.widened) == (len(plain), int((scale > plain).sum()))
    assert found.widened > 0
    noise = 10 * np.log10(np.square(scale, dtype=float).sum() / np.square(plain, dtype=float).sum())
    assert found.noise_db == pytest.approx(noise, abs=0.01)
    twice = found + found
    assert (twice.columns, twice.noise_db) == (2 * found.columns, found.noise_db)
    assert Widened.of(weight, plain).widened == 0


def test_a_native_build_where_pairs_saturate_fits_all_the_same(
    bert: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qdeploy.deploy.request.instruction_set", lambda: "avx2")
    engine = tmp_path / "engine"
    build_engine(bert.directory, engine, cpu="native", statistics=bert.statistics, measure=False)
    assert json.loads((engine / "certificate.json").read_text())["processors"]["proved"]


def test_native_is_of_cpu_targets(bert: Source, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="--cpu native is of CPU targets"):
        build_engine(
            bert.directory, tmp_path / "engine", cpu="native", target="tensorrt", dry_run=True
        )


def test_loading_warns_on_a_processor_that_adds_otherwise(
    engine: Callable[..., Built], tmp_path: Path, bert: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = tmp_path / "native"
    monkeypatch.setattr("qdeploy.deploy.request.instruction_set", lambda: "avx512_vnni")
    build_engine(bert.directory, native, cpu="native", statistics=bert.statistics, measure=False)
    made_on = json.loads((native / "certificate.json").read_text())["processors"]["made_on"]
    other = "avx2" if made_on in processor.EXACT else "avx512_vnni"
    monkeypatch.setattr("qdeploy.deploy.processors.instruction_set", lambda: other)
    with pytest.warns(QDeployWarning, match=r"can saturate on one of the two.*--cpu any"):
        open_engine(native)
    open_engine(engine(strategy="peg").directory)  # proved: no warning, which would be an error


def test_what_runs_in_float_has_nothing_to_saturate(tmp_path: Path) -> None:
    toy = Toy(SHAPE)
    weight = toy.int8_weight("w", np.full((8, 4), 127, np.int8), np.full(4, 0.01, np.float32))
    model = toy.model(toy.op("MatMul", toy.x, weight, name="p"))  # weight-only
    found = describe(saved(model, tmp_path / "model.onnx"))
    assert (found["processors"]["products"], found["processors"]["proved"]) == (0, True)


def test_a_file_of_anybody_is_judged(tmp_path: Path) -> None:
    toy = Toy(SHAPE)
    codes = np.full((8, 4), 127, np.int8)
    model = toy.model(_int8_kernel(toy, codes))
    path = saved(model, tmp_path / "model.onnx")
    found = describe(path)["processors"]
    assert found["saturating"] == [{"gemm": "p", "largest_pair": 254, "columns_over": 4}]
    assert "1 of 1 INT8 products can saturate" in found["summary"]
