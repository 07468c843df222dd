"""The proof that planned GEMMs ran in INT8: counts, shares and reasons."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import PerTensor
from qdeploy.deploy.certificate import check_int8, probe_feeds
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.open import open_engine
from qdeploy.deploy.ort.kernels import INT8_KERNELS
from qdeploy.deploy.ort.profile import optimized_graph
from qdeploy.deploy.tally import tally
from qdeploy.deploy.targets.ort_cpu.lower import lower as lower_ort_cpu
from qdeploy.errors import ModelError
from qdeploy.files.artifact import read_json, write_json
from qdeploy.graph.sites import find_structure
from tests.deploy.conftest import Built, Source
from tests.deploy.toys import Toy, certified, plan_of, planned, saved
from tests.manifests import sign

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
    return planned(plan, structure, lowered.trace_names)


def test_counts_and_shares(tmp_path: Path) -> None:
    report = certified(tmp_path / "m.onnx", two_gemms(tmp_path / "m.onnx"))
    gemms = report.pop("gemms")
    assert report == {
        "planned": 1,
        "executed": 1,
        "planned_share": 0.25,
        "executed_share": 1.0,
        "flops_share": 0.25,
        "time_share": None,
        "fallbacks": [],
        "unplanned": [
            {"site": "second", "kernel": "missing", "reason": "test", "flops_share": 0.75}
        ],
    }
    assert gemms["first"] == {
        "planned": "int8",
        "kernel": "MatMulIntegerToFloat",
        "flops_share": 0.25,
        "time_share": None,
        "reason": "",
    }
    assert (gemms["second"]["planned"], gemms["second"]["reason"]) == ("float", "test")


def test_outlier_channels_are_not_counted_as_int8(tmp_path: Path) -> None:
    gemms = two_gemms(tmp_path / "m.onnx")
    gemms["first"]["float_flops"] = gemms["first"]["flops"] // 4
    report = certified(tmp_path / "m.onnx", gemms)
    assert report["planned_share"] == report["flops_share"] == 0.25 * 0.75
    assert report["executed_share"] == 1.0


def test_one_float_part_makes_the_whole_gemm_a_fallback(tmp_path: Path) -> None:
    """A GEMM in several parts is INT8 only if all of them are."""
    gemms = two_gemms(tmp_path / "m.onnx")
    gemms["first"]["marks"].append(TraceName("second.weight", "second"))
    report = certified(tmp_path / "m.onnx", gemms)
    assert (report["executed"], report["flops_share"]) == (0, 0.0)
    assert report["gemms"]["first"]["kernel"] == "MatMul"
    (fallback,) = report["fallbacks"]
    assert "its input is not quantized where it enters the product" in fallback["reason"]


@pytest.mark.parametrize("trace_names", [[], [TraceName("a weight that is gone", "first")]])
def test_a_planned_gemm_without_a_weight_is_a_fallback(
    trace_names: list[TraceName], tmp_path: Path
) -> None:
    gemms = two_gemms(tmp_path / "m.onnx")
    gemms["first"]["marks"] = trace_names
    (fallback,) = certified(tmp_path / "m.onnx", gemms)["fallbacks"]
    assert fallback == {
        "site": "first",
        "kernel": "missing",
        "reason": "no kernel reads its int8 weight",
    }


def test_a_plan_without_int8() -> None:
    gemm: Any = {"precision": "float", "reason": "", "flops": 10, "float_flops": 0, "marks": []}
    report = tally({"gemm": gemm}, {}, 0.0)
    assert (report["planned"], report["executed"], report["flops_share"]) == (0, 0, 0.0)


def test_a_damaged_file_is_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelError, match=r"m\.onnx does not load in ONNX Runtime"):
        optimized_graph(tmp_path / "m.onnx")


@pytest.mark.parametrize("strategy", ["peg", "w8a8", "dynamic"])
def test_the_run_agrees_with_what_build_wrote(
    strategy: str, engine: Callable[..., Built], bert: Source
) -> None:
    built = engine(strategy=strategy)
    report = check_int8(built.directory, open_engine(built.directory, threads=1), bert.feeds(2))
    assert report["executed"] == report["planned"] == built.report["int8"]["planned"]
    assert not report["fallbacks"]
    assert report["shape"] == list(bert.feeds(2)["input_ids"].shape)
    calls = sum(n for kernel, n in report["kernels"].items() if kernel in INT8_KERNELS)
    assert calls >= report["planned"]
    written = read_json(built.directory / "certificate.json")["int8"]
    assert written["shape"] == [8, 128]
    for name, gemm in written["gemms"].items():
        assert gemm["kernel"] == report["gemms"][name]["kernel"]
        assert (gemm["planned"] == "int8") == (gemm["kernel"] in INT8_KERNELS)
        assert 0 < gemm["time_share"] < 1
    assert sum(gemm["flops_share"] for gemm in written["gemms"].values()) == pytest.approx(
        1, abs=1e-4
    )
    int8 = [gemm["time_share"] for gemm in written["gemms"].values() if gemm["planned"] == "int8"]
    assert written["time_share"] == pytest.approx(sum(int8), abs=1e-4)


def test_fp32_has_float_kernels_only(engine: Callable[..., Built], bert: Source) -> None:
    directory = engine(strategy="fp32").directory
    report = check_int8(directory, open_engine(directory, threads=1), bert.feeds(2))
    assert report["kernels"]
    assert not INT8_KERNELS & set(report["kernels"])
    assert {gemm["kernel"] for gemm in report["gemms"].values()} <= {"MatMul", "Gemm", "FusedGemm"}


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
    certified(tmp_path / "m.onnx", gemms)
    assert (tmp_path / "m.onnx").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    assert "MatMulIntegerToFloat" in {n.op_type for n in ir.load(tmp_path / "m.onnx").graph}


def test_another_graph_under_a_certificate_is_refused(
    engine: Callable[..., Built], bert: Source, tmp_path: Path
) -> None:
    directory = tmp_path / "engine"
    shutil.copytree(engine(strategy="peg").directory, directory)
    assert check_int8(directory, open_engine(directory, threads=1), bert.feeds(2))["executed"]
    shutil.copyfile(bert.directory / "model.onnx", directory / "model.onnx")
    with pytest.raises(ModelError, match=r"model\.onnx is not the file that build wrote"):
        check_int8(directory, open_engine(directory, threads=1), bert.feeds(2))


def test_a_certificate_of_an_earlier_version_is_refused(
    engine: Callable[..., Built], bert: Source, tmp_path: Path
) -> None:
    directory = tmp_path / "engine"
    shutil.copytree(engine(strategy="peg").directory, directory)
    old = read_json(directory / "certificate.json")
    del old["other_products"]
    write_json(directory / "certificate.json", old)
    sign(directory)
    with pytest.raises(ModelError, match="does not list all products of the graph: an earlier"):
        check_int8(directory, open_engine(directory, threads=1), bert.feeds(2))
