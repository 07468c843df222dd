"""`inspect` of directories and files: what it tells, and what fails a gate."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.cli import main
from qdeploy.deploy.describe import by_rule
from qdeploy.deploy.rules import ADVICE, ERROR, BrokenRule
from qdeploy.errors import GateError, ModelError, PlanError
from qdeploy.schemas.inspection import InspectedEngine, InspectedFile, InspectedModel
from tests import manifests
from tests.calibrate.encoder import LAYERS, encoder, model_directory
from tests.deploy.conftest import Built, Source
from tests.documents import assert_is


def test_a_model_and_what_is_kept_of_its_calibrations(bert: Source) -> None:
    found = qdeploy.inspect(bert.directory)
    assert found["kind"] == "model" and found["model_type"] == "bert"
    assert found["size_mb"] > 0 and found["inputs"] and found["max_length"]
    assert_is(found, InspectedModel)
    kept = {one["file"]: one for one in found["statistics"]}
    assert kept[bert.statistics.name]["rows"] == 16
    assert kept[bert.statistics.name]["data"] == "qnli-mini"


def test_damaged_statistics_are_named_and_no_error(tmp_path: Path) -> None:
    model = model_directory(tmp_path / "model")
    assert qdeploy.inspect(model)["statistics"] == []
    (model / "statistics").mkdir()
    (model / "statistics" / "a.npz").write_bytes(b"nothing")
    assert qdeploy.inspect(model)["statistics"] == [{"file": "a.npz", "damaged": True}]


def test_an_engine_by_layer(engine: Callable[..., Built]) -> None:
    built = engine(strategy="w8a8")
    found = qdeploy.inspect(built.directory)
    assert found["kind"] == "engine"
    assert_is(found, InspectedEngine)
    check = found["int8"]
    rows = found["layers"]
    assert check is not None and found["calibration"] is not None
    assert found["checkpoint"] == "bert" and found["strategy"] == "w8a8"
    assert sum(row["executed"] or 0 for row in rows) == check["executed"]
    assert sum(row["gemms"] for row in rows) == len(check["gemms"])
    assert sum(row["flops_share"] for row in rows) == pytest.approx(1, abs=1e-3)
    assert sum(n for row in rows for n in row["treatments"].values()) == len(found["sites"])
    worst = min(s["sqnr_db"] for s in found["sites"] if s["sqnr_db"] is not None)
    assert found["noisiest"][0]["sqnr_db"] == worst
    assert found["calibration"]["rows"] == 16 and "row_hashes" not in found["calibration"]
    assert found["planned_share"] == check["planned_share"]


def test_what_is_in_float_has_a_cause(engine: Callable[..., Built]) -> None:
    found = qdeploy.inspect(engine(strategy="fp32").directory)
    assert found["kind"] == "engine" and found["int8"] is not None
    assert sum(cause["count"] for cause in found["float"]) == len(found["int8"]["gemms"])
    assert all(cause["reason"] and cause["planned"] == "float" for cause in found["float"])


def test_a_file_by_layer(engine: Callable[..., Built]) -> None:
    found = qdeploy.inspect(engine(strategy="w8a8").directory / "model.onnx")
    assert found["kind"] == "onnx" and set(found["inputs"]) >= {"input_ids"}
    assert_is(found, InspectedFile)
    assert [row["treatments"] for row in found["layers"]] == [{}] * len(found["layers"])
    assert sum(row["gemms"] for row in found["layers"]) == len(found["int8"]["gemms"])


def test_the_summary_of_a_file_says_whether_it_can_saturate(
    engine: Callable[..., Built], capsys: pytest.CaptureFixture[str]
) -> None:
    path = engine(strategy="w8a8").directory / "model.onnx"
    assert main(["inspect", str(path)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert qdeploy.inspect(path)["processors"]["summary"] in said


def test_the_share_of_int8_is_a_gate(engine: Callable[..., Built], tmp_path: Path) -> None:
    built = engine(strategy="w8a8").directory
    assert qdeploy.inspect(built, require_int8=0.5)["int8"]["flops_share"] >= 0.5
    assert qdeploy.inspect(built / "model.onnx", require_int8=0.5)
    plain = model_directory(tmp_path / "model") / "model.onnx"
    with pytest.raises(GateError, match="No GEMM is planned in INT8") as caught:
        qdeploy.inspect(plain, require_int8=0.5)
    assert caught.value.report["kind"] == "onnx"
    fp32 = engine(strategy="fp32").directory
    with pytest.raises(GateError, match="--require-int8"):
        qdeploy.inspect(fp32, require_int8=0.1)


def test_a_gate_that_cannot_be_judged_is_refused(bert: Source, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="a share of 0 to 1"):
        qdeploy.inspect(bert.directory, require_int8=99)
    with pytest.raises(PlanError, match="needs kernels that ran, and .* has none"):
        qdeploy.inspect(bert.directory, require_int8=0.5)
    with pytest.raises(PlanError, match="judges the graph alone"):
        qdeploy.inspect(bert.directory, target="tensorrt", require_int8=0.5)


def test_a_failed_gate_is_1_and_its_report_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = model_directory(tmp_path / "model") / "model.onnx"
    report = tmp_path / "report.json"
    assert main(["inspect", str(plain), "--require-int8", "0.9", "--json", str(report)]) == 1
    out, err = capsys.readouterr()
    assert json.loads(report.read_text())["int8"]["planned"] == 0
    assert "In float" in out and err.startswith("Error: No GEMM is planned in INT8")
    assert main(["inspect", str(plain)]) == 0


def broken(rule: str, severity: str, node: str, text: str = "why") -> BrokenRule:
    return BrokenRule(rule, severity, node, text, "do this")


def test_broken_rules_with_counts_and_three_places() -> None:
    found = [
        broken("attention", ADVICE, "a"),
        broken("signed", ERROR, "b"),
        *(broken("zero-point", ERROR, f"n{i}", f"its zero point is {i}") for i in range(5)),
    ]
    rules = by_rule(found)
    assert [(rule["rule"], rule["severity"], rule["count"]) for rule in rules] == [
        ("zero-point", ERROR, 5),
        ("signed", ERROR, 1),
        ("attention", ADVICE, 1),
    ]
    assert rules[0]["places"] == [
        {"node": f"n{i}", "text": f"its zero point is {i}"} for i in range(3)
    ]
    assert by_rule([]) == []


def test_broken_rules_are_1_and_grouped(
    engine: Callable[..., Built], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = engine(strategy="w8a8").directory / "model.onnx"  # uint8: not TensorRT's
    with pytest.raises(GateError, match=r"breaks the rules of tensorrt in \d+ places") as caught:
        qdeploy.inspect(path, target="tensorrt")
    assert_is(caught.value.report, InspectedFile)
    checked: dict[str, Any] = caught.value.report["contract"]
    assert checked["errors"] > 10
    assert sum(rule["count"] for rule in checked["rules"]) == len(checked["violations"])
    report = tmp_path / "report.json"
    assert main(["inspect", str(path), "--target", "tensorrt", "--json", str(report)]) == 1
    out, err = capsys.readouterr()
    assert json.loads(report.read_text())["contract"] == checked
    assert "breaks the rules" in err
    assert max(rule["count"] for rule in checked["rules"]) > 3 and "more (all of them: -v)" in out
    for rule in checked["rules"]:
        assert f"{rule['severity']} {rule['rule']}, {rule['count']} place" in out
    main(["inspect", str(path), "--target", "tensorrt", "-v"])
    whole = " ".join(capsys.readouterr().out.split())
    assert all(f": {one['node']}: " in whole for one in checked["violations"])


def test_rules_that_are_kept_are_0(bert: Source, tmp_path: Path) -> None:
    qdeploy.build(
        bert.directory, tmp_path / "e", strategy="w8a8", target="tensorrt", dry_run=True,
        statistics=bert.statistics, measure=False,
    )  # fmt: skip
    assert qdeploy.inspect(tmp_path / "e", target="tensorrt")["contract"]["errors"] == 0
    assert main(["inspect", str(tmp_path / "e"), "--target", "tensorrt", "-q"]) == 0


def test_the_head_is_last_whatever_its_name(tmp_path: Path) -> None:
    """certificate.json has GEMMs by name, and `classifier` comes before `layer`."""
    model = model_directory(tmp_path / "model")
    qdeploy.build(model, tmp_path / "engine", strategy="dynamic", measure=False)
    rows = qdeploy.inspect(tmp_path / "engine")["layers"]
    assert [(row["layer"], row["gemms"]) for row in rows] == [("0", 6), ("1", 6), ("head", 1)]


@pytest.mark.parametrize("fields", [{}, {"warning": 5}, {"sqnr_db": None}])
def test_noise_that_cannot_be_is_damage(
    fields: dict[str, Any], engine: Callable[..., Built], tmp_path: Path
) -> None:
    place = Path(shutil.copytree(engine(strategy="w8a8").directory, tmp_path / "engine"))
    noise = {"data": "d", "rows": 8, "simulated": False, "equal": False, "finite": True,
             "answers": 8, "sqnr_db": 30.0, "flipped": 0, "max_abs_diff": 0.1,
             "warning": None}  # fmt: skip
    manifests.edit(place, "engine", noise=noise)
    assert main(["inspect", str(place), "-q"]) == 0
    manifests.edit(place, "engine", noise=noise | fields if fields else {"data": "d"})
    with pytest.raises(ModelError, match="damaged"):
        qdeploy.inspect(place)


def test_a_package_that_is_missing_is_no_fault_of_the_file(tmp_path: Path) -> None:
    """Where only the runtime is installed, the process that looks says what it lacks."""
    path, result = model_directory(tmp_path / "model") / "model.onnx", tmp_path / "result.json"
    code = (
        "import sys; sys.modules['onnx_ir'] = None; from qdeploy.deploy.foreign import main; "
        f"main([{str(path)!r}, {str(result)!r}, '1000'])"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    found = json.loads(result.read_text())
    assert "onnx" in found["text"] and "install" in found["text"]


def test_layers_of_the_tiny_encoder_are_found() -> None:
    from qdeploy.graph.sites import find_structure
    from qdeploy.names import place_of

    names = [gemm.name for gemm in find_structure(encoder()).gemms]
    assert {place_of(name)[0] for name in names} == {*range(LAYERS), None}
