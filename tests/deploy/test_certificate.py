"""The proof that planned GEMMs ran in INT8: counts, shares and reasons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.artifact import read_json
from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import PerTensor
from qdeploy.calibrate.sites import find_structure
from qdeploy.deploy.certificate import INT8_KERNELS, certify, check_int8, probe_feeds
from qdeploy.deploy.engine import KernelTime, open_engine
from qdeploy.deploy.lower_ort_cpu import lower_ort_cpu
from qdeploy.errors import ModelError
from tests.deploy.conftest import Built, Source
from tests.deploy.toys import Toy, plan_of, planned, saved

K = 16


def two_gemms(path: Path) -> dict[str, Any]:
    """One GEMM lowered to INT8, and one of three times its size left in float."""
    toy = Toy(("batch", "sequence", K))
    rng = np.random.default_rng(0)
    first = toy.constant("first.weight", rng.normal(size=(K, K)).astype(np.float32))
    second = toy.constant("second.weight", rng.normal(size=(K, 3 * K)).astype(np.float32))
    hidden = toy.op("Neg", toy.x, name="hidden", channels=K)
    middle = toy.op("MatMul", hidden, first, name="first", channels=K)
    gelu = toy.op("Gelu", middle, name="gelu", channels=K)
    model = toy.model(toy.op("MatMul", gelu, second, name="second", channels=3 * K))
    structure = find_structure(model)
    plan = plan_of(structure, {"hidden.out": PerTensor(Affine(0.05, 128))})
    lowered = lower_ort_cpu(model, plan, structure)
    saved(lowered.model, path)
    return planned(plan, structure, lowered.weights)


def test_counts_and_the_share_of_flops(tmp_path: Path) -> None:
    report = certify(tmp_path / "m.onnx", two_gemms(tmp_path / "m.onnx"))
    assert report == {
        "planned": 1,
        "executed": 1,
        "flops_share": 0.25,
        "fallbacks": [],
        "gemms": {"first": "MatMulIntegerToFloat"},
    }


def test_one_float_part_makes_the_whole_gemm_a_fallback(tmp_path: Path) -> None:
    """A GEMM in several parts is INT8 only if all of them are."""
    gemms = two_gemms(tmp_path / "m.onnx")
    gemms["first"]["weights"].append("second.weight")
    report = certify(tmp_path / "m.onnx", gemms)
    assert (report["executed"], report["flops_share"]) == (0, 0.0)
    assert report["gemms"] == {"first": "MatMul"}
    (fallback,) = report["fallbacks"]
    assert fallback["reason"] == "its int8 weight is read by MatMul, which computes in float"


def test_a_planned_gemm_without_a_weight_is_a_fallback(tmp_path: Path) -> None:
    gemms = two_gemms(tmp_path / "m.onnx")
    gemms["second"] = gemms["second"] | {"precision": "int8"}
    (fallback,) = certify(tmp_path / "m.onnx", gemms)["fallbacks"]
    assert (fallback["site"], fallback["kernel"]) == ("second", "missing")


def test_a_plan_without_int8_needs_no_session(tmp_path: Path) -> None:
    gemm = {"precision": "float", "reason": "", "flops": 10, "weights": []}
    report = certify(tmp_path / "nowhere.onnx", {"gemm": gemm})
    assert (report["planned"], report["executed"], report["flops_share"]) == (0, 0, 0.0)


def test_a_damaged_file_is_no_certificate(tmp_path: Path) -> None:
    gemms = two_gemms(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelError, match=r"m\.onnx does not load in ONNX Runtime"):
        certify(tmp_path / "m.onnx", gemms)


@pytest.mark.parametrize("strategy", ["peg", "w8a8", "dynamic"])
def test_the_profile_of_a_run_agrees(
    strategy: str, engine: Callable[..., Built], bert: Source
) -> None:
    built = engine(strategy=strategy)
    running = open_engine(built.directory, threads=1)
    report = check_int8(built.directory, running, bert.feeds(2))
    assert report["executed"] == report["planned"] == built.report["int8"]["planned"]
    assert not report["fallbacks"]
    calls = sum(n for kernel, n in report["kernels"].items() if kernel in INT8_KERNELS)
    assert calls >= report["planned"]
    certificate = read_json(built.directory / "certificate.json")
    assert certificate["int8"]["gemms"] == report["gemms"]


def test_the_profile_of_fp32_names_float_kernels_only(
    engine: Callable[..., Built], bert: Source
) -> None:
    directory = engine(strategy="fp32").directory
    report = check_int8(directory, open_engine(directory, threads=1), bert.feeds(2))
    assert report["kernels"]
    assert not INT8_KERNELS & set(report["kernels"])


@dataclass
class _FloatEngine:
    """An engine whose run calls fewer INT8 kernels than its file holds."""

    input_names: tuple[str, ...] = ("input_ids",)
    output_names: tuple[str, ...] = ("logits",)
    threads: int = 1

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Not called."""
        raise AssertionError

    def profile(self, feeds: Mapping[str, Any], iterations: int = 20) -> list[KernelTime]:
        """Three INT8 kernels."""
        return [KernelTime("a", "MatMulIntegerToFloat", 1.0, 3), KernelTime("b", "MatMul", 1.0, 9)]


def test_a_run_that_called_fewer_int8_kernels_is_said(engine: Callable[..., Built]) -> None:
    report = check_int8(engine(strategy="w8a8").directory, _FloatEngine(), {})
    assert report["executed"] == 3 < report["planned"]
    assert report["fallbacks"] == [
        {"site": "profile", "kernel": "none", "reason": "the run called 3 INT8 kernels only"}
    ]


def test_probe_feeds_fit_every_family(source: Callable[[str], Source]) -> None:
    model, _ = source("roberta").graph()
    names = [str(value.name) for value in model.graph.inputs]
    feeds = probe_feeds(names, batch=2, sequence=5)
    assert list(feeds) == names
    assert all(a.shape == (2, 5) and a.dtype == np.int64 for a in feeds.values())
    assert feeds["input_ids"].min() >= 1 and feeds["input_ids"].max() <= 9


def test_the_file_on_disk_is_not_touched(tmp_path: Path) -> None:
    gemms = two_gemms(tmp_path / "m.onnx")
    before = (tmp_path / "m.onnx").read_bytes()
    certify(tmp_path / "m.onnx", gemms)
    assert (tmp_path / "m.onnx").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert "MatMulIntegerToFloat" in {n.op_type for n in ir.load(tmp_path / "m.onnx").graph}
