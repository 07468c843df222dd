"""A sweep on this machine: every trial ends once, and what is done is not done again."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.cli import main
from qdeploy.errors import DataError, GateError, OutputError, PlanError, QDeployWarning
from qdeploy.files.kept import forget, notes
from qdeploy.sweep import local
from qdeploy.sweep.claim import LOCK, claimed
from qdeploy.sweep.local import failure
from qdeploy.sweep.run import _Kept
from tests.documents import require_typed_sweep
from tests.test_tied import ends

pytestmark = pytest.mark.integration
ONE_TRIAL = """
calibration: {rows: 8, seed: 0}
latency: {shapes: [2x16], warmup: 1, iterations: 20, threads: 1}
trials:
  - {strategy: w8a8}
"""


@pytest.fixture(scope="module")
def data(rows: str, other_rows: str) -> dict[str, Any]:
    return {"data": rows, "eval_data": other_rows}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, model: Path, data: dict[str, Any]) -> Any:
    """A finished sweep: its folder, its recipe, and its result."""
    from tests.sweep.conftest import RECIPE

    home = tmp_path_factory.mktemp("swept")
    recipe = home / "recipe.yaml"
    recipe.write_text(RECIPE)
    folder = home / "sweep"
    pictures: dict[str, Any] = {"html": folder / "sweep.html", "plot": folder / "pictures"}
    result = qdeploy.sweep(model, folder, recipe=recipe, max_drop=100, **data, **pictures)
    return folder, recipe, result


@contextlib.contextmanager
def steps_that_run() -> Iterator[list[str]]:
    """The steps of trials that are run within, as "STRATEGY STEP"."""
    ran: list[str] = []
    own = local.run_step

    def run_step(step: str, request: Any, **given: Any) -> None:
        ran.append(f"{request.settings['strategy']} {step}")
        own(step, request, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qdeploy.sweep.run.run_step", run_step)
        yield ran


def test_every_trial_has_its_figures(swept: Any) -> None:
    folder, _, result = swept
    require_typed_sweep(folder, result)
    labels = [trial["label"] for trial in result["trials"]]
    assert labels == ["fp32", "dynamic", "w8a8 symmetric", "peg symmetric"]
    for trial in result["trials"]:
        assert trial["error"] is None and trial["n"] == 24
        assert trial["p50_ms"] > 0 and trial["size_mb"]["total"] > 0
        assert set(trial["latency"]) == {"2x16"}
        assert (trial["speedup"] is None) == (trial["label"] == "fp32")
    quantized = [t for t in result["trials"] if t["label"].startswith(("w8a8", "peg"))]
    assert all(t["int8"]["executed"] == t["int8"]["planned"] > 0 for t in quantized)
    assert json.loads((folder / "sweep.json").read_text()) == json.loads(json.dumps(result))
    assert set(result["pareto"]) <= {trial["key"] for trial in result["trials"]}
    fastest = min(result["trials"][1:], key=lambda trial: float(trial["relative"]))
    assert result["cheapest"] == fastest["key"]  # any drop is allowed; FP32 is no plan to take


def test_page_and_picture_may_lie_in_the_folder(swept: Any) -> None:
    folder, *_ = swept
    assert "4 of 4 engines" in (folder / "sweep.html").read_text("utf-8")
    assert (folder / "pictures" / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_a_page_into_no_folder_is_refused_before_the_work(
    model: Path, recipe: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="nowhere does not exist"):
        qdeploy.sweep(
            model, tmp_path / "sweep", recipe=recipe, html=tmp_path / "nowhere" / "x.html"
        )
    assert not (tmp_path / "sweep").exists()


def test_figures_are_those_of_an_evaluation(swept: Any, other_rows: str) -> None:
    folder, _, result = swept
    by_label = {trial["label"]: trial for trial in result["trials"]}
    keys = {name: by_label[name]["key"] for name in ("fp32", "peg symmetric")}
    with pytest.warns(QDeployWarning, match="CONSTANT PREDICTOR"):  # the weights are random
        report = qdeploy.evaluate(
            folder / "trials" / keys["peg symmetric"] / "engine",
            data=other_rows,
            baseline=folder / "trials" / keys["fp32"] / "engine",
            latency=False,
        )
    trial = by_label["peg symmetric"]
    assert report["metrics"]["accuracy"] == trial["value"]
    assert report["baseline"]["sqnr_db"] == pytest.approx(trial["sqnr_db"])
    assert report["int8"]["executed"] == trial["int8"]["executed"]


def test_a_second_run_does_nothing_twice(
    swept: Any, model: Path, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, recipe, first = swept

    def run_step(*_: object, **__: object) -> None:
        raise AssertionError("a trial ran again")

    monkeypatch.setattr("qdeploy.sweep.run.run_step", run_step)
    assert qdeploy.sweep(model, folder, recipe=recipe, max_drop=100, **data) == first


@pytest.mark.filterwarnings("ignore:CONSTANT PREDICTOR:qdeploy.errors.QDeployWarning")
def test_one_limit_holds_for_calibration_and_evaluation(
    model: Path, data: dict[str, Any], tmp_path: Path
) -> None:
    """--max-length goes before the recipe's own; what it cuts is said once, for all trials."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(ONE_TRIAL.replace("trials", "max_length: 32\ntrials"))
    with pytest.warns(QDeployWarning) as said:
        result = qdeploy.sweep(model, tmp_path / "sweep", recipe=recipe, max_length=10, **data)
    texts = [str(warning.message) for warning in said]
    assert result["setting"]["protocol"]["max_length"] == 10
    assert result["data"]["max_length"] == 10 and result["data"]["truncated"] > 0
    assert any("calibration rows" in text and "more than 10 tokens" in text for text in texts)
    (cut,) = [text for text in result["warnings"] if "evaluation rows" in text]
    assert cut in texts and "--max-length says so" in cut
    engine = tmp_path / "sweep" / "trials" / result["trials"][1]["key"] / "engine"
    manifest = json.loads((engine / "qdeploy.json").read_text())
    assert manifest["calibration"]["max_length"] == 10
    report = qdeploy.evaluate(engine, data=data["eval_data"], latency=False, max_length=10)
    assert report["metrics"]["accuracy"] == result["trials"][1]["value"]


def test_rows_that_a_sweep_cannot_compare_on(model: Path, tmp_path: Path) -> None:
    recipe, rows = tmp_path / "recipe.yaml", tmp_path / "rows.tsv"
    recipe.write_text(ONE_TRIAL)
    rows.write_text("question\tsentence\n" + "who?\tthe king\n" * 9)
    text = r"rows\.tsv has no labels, and a sweep compares answers with labels\. Name their"
    with pytest.raises(DataError, match=text):
        qdeploy.sweep(model, tmp_path / "sweep", recipe=recipe, data=str(rows))


@pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
def test_classes_in_a_wrong_order_are_said_once(
    model: Path, data: dict[str, Any], tmp_path: Path
) -> None:
    """Labels that are the opposite of what the model answers."""
    qdeploy.build(model, tmp_path / "fp32", strategy="fp32")
    texts = [(f"who built {at}?", f"the king {'x ' * (at % 9)}{at}.") for at in range(60)]
    found = qdeploy.load(tmp_path / "fp32").predict(texts)
    middle = sorted(answer.scores["entailment"] for answer in found)[30]
    lines = ["question\tsentence\tlabel"]
    for (first, second), answer in zip(texts, found, strict=True):
        label = "not_entailment" if answer.scores["entailment"] > middle else "entailment"
        lines.append(f"{first}\t{second}\t{label}")
    rows, recipe = tmp_path / "rows.tsv", tmp_path / "recipe.yaml"
    rows.write_text("\n".join(lines) + "\n")
    recipe.write_text(ONE_TRIAL)
    settings = data | {"eval_data": str(rows)}
    result = qdeploy.sweep(model, tmp_path / "sweep", recipe=recipe, **settings)
    assert sum(text.startswith("CLASS ORDER") for text in result["warnings"]) == 1


def test_a_new_trial_alone_is_run(
    swept: Any, model: Path, data: dict[str, Any], tmp_path: Path
) -> None:
    folder, recipe, first = swept
    shutil.copytree(folder, tmp_path / "sweep")
    longer = tmp_path / "longer.yaml"
    longer.write_text(recipe.read_text() + "  - {strategy: mixed, activations: symmetric}\n")
    with steps_that_run() as ran:
        result = qdeploy.sweep(model, tmp_path / "sweep", recipe=longer, **data)
    assert ran == ["mixed accuracy", "mixed latency"]
    assert result["trials"][:4] == first["trials"]


def test_a_failed_trial_does_not_stop_the_others(model: Path, rows: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "latency: {shapes: [1x8], warmup: 0, iterations: 2, threads: 1}\n"
        "calibration: {rows: 4}\n"
        "trials: [{strategy: peg, float_sites: nowhere}, {strategy: w8a8}]\n"
    )
    result = qdeploy.sweep(model, tmp_path / "sweep", recipe=recipe, data=rows)
    assert (result["data"]["left_out"], result["data"]["n"], result["warnings"]) == (4, 20, [])
    _, broken, whole = result["trials"]
    assert "site of this plan 'nowhere'" in broken["error"] and whole["error"] is None
    assert broken["key"] not in result["pareto"]
    again = qdeploy.sweep(model, tmp_path / "sweep", recipe=recipe, data=rows)  # tried once more
    assert "'nowhere'" in again["trials"][1]["error"]


@pytest.mark.filterwarnings("ignore:CONSTANT PREDICTOR:qdeploy.errors.QDeployWarning")
@pytest.mark.parametrize("limit", [pytest.param(None, marks=pytest.mark.slow), 6])
def test_rows_that_calibrate_are_left_out_as_eval_leaves_them(
    limit: int | None, model: Path, rows: str, tmp_path: Path
) -> None:
    """An engine of the same data and seed, measured by `eval`, has the same figures."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(ONE_TRIAL + (f"accuracy: {{limit: {limit}}}\n" if limit else ""))
    result = qdeploy.sweep(model, tmp_path / "sweep", recipe=recipe, data=rows)
    own: dict[str, Any] = {"strategy": "w8a8", "measure": False, "calibration_rows": 8}
    qdeploy.build(model, tmp_path / "engine", data=rows, **own)
    report = qdeploy.evaluate(tmp_path / "engine", latency=False, limit=limit)
    assert (result["data"]["n"], result["trials"][1]["n"]) == (limit or 16, report["metrics"]["n"])
    assert result["data"]["left_out"] == report["data"]["left_out"] > 0
    assert result["trials"][1]["value"] == report["metrics"]["accuracy"]


@pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
def test_the_next_command_builds_the_engine_that_was_measured(swept: Any, tmp_path: Path) -> None:
    folder, _, result = swept
    chosen = result["next"]
    assert (
        chosen["key"] == result["cheapest"] and chosen["reason"] == "the fastest within 100 points"
    )
    words = shlex.split(chosen["command"])
    words[3] = str(tmp_path / "engine")
    assert words[0] == "qdeploy" and main([*words[1:], "--no-measure"]) == 0
    theirs = folder / "trials" / chosen["key"] / "engine" / "model.onnx"
    assert (tmp_path / "engine" / "model.onnx").read_bytes() == theirs.read_bytes()


def test_a_gate_that_nothing_holds(
    swept: Any, model: Path, data: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, recipe, _ = swept
    monkeypatch.setattr("qdeploy.sweep.run.result_of", lambda *_: swept[2] | {"cheapest": None})
    with pytest.raises(GateError, match="No engine of the sweep holds --max-drop 0") as caught:
        qdeploy.sweep(model, folder, recipe=recipe, max_drop=0, **data)
    assert caught.value.report["cheapest"] is None


def test_a_foreign_folder_is_left_alone(
    model: Path, rows: str, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(OutputError, match="is no folder of a sweep"):
        qdeploy.sweep(model, tmp_path / "mine", recipe=recipe, data=rows)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_what_a_failed_process_said() -> None:
    trace = "Traceback ...\n  line\nqdeploy.errors.PlanError: --alpha is 3; give less."
    assert failure(1, trace) == "--alpha is 3; give less."
    assert failure(-9, "") == "killed by signal 9"
    assert failure(1, "ValueError: x") == "ValueError: x"
    assert failure(3, "") == "exit code 3"


# What a killed run leaves, and what a folder holds


def test_a_run_that_was_killed_goes_on(
    model: Path, data: dict[str, Any], recipe: Path, tmp_path: Path
) -> None:
    """SIGKILL while a trial works: its process goes too, and the next run does what is missing."""
    folder = tmp_path / "sweep"
    command = [sys.executable, "-m", "qdeploy", "sweep", str(model), str(folder), "--quiet"]
    command += ["--recipe", str(recipe), "--data", data["data"], "--eval-data", data["eval_data"]]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list(folder.glob("trials/*/accuracy.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()  # the result is there, and maybe not yet the note behind it
    process.wait()
    (done,) = folder.glob("trials/*/accuracy.json")
    (done.parent / "accuracy.ran.json").unlink(missing_ok=True)
    assert (folder / LOCK).is_file()
    result = qdeploy.sweep(str(model), folder, recipe=recipe, **data)
    assert [trial["error"] for trial in result["trials"]] == [None] * 4
    assert not (folder / LOCK).exists()


def test_what_is_kept_is_counted_for_who_interrupts() -> None:
    forget()
    kept = _Kept(Path("sw"), 3)
    kept.add("accuracy", ["a", "b"])
    kept.add("latency", ["a"])
    kept.add("accuracy", ["b"])
    text = "2 of 3 trials kept in sw, 1 of them timed; the same command goes on"
    assert notes() == [text]
    forget()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("moment", ["starts", "imports", "builds"])
def test_a_killed_sweep_takes_its_trial_with_it_at_once(
    moment: str, model: Path, data: dict[str, Any], recipe: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    command = [sys.executable, "-m", "qdeploy", "sweep", str(model), str(folder), "--quiet"]
    command += ["--recipe", str(recipe), "--data", data["data"], "--eval-data", data["eval_data"]]
    sweep = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (trials := _children(sweep.pid)):
        assert sweep.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    if moment == "imports":
        time.sleep(0.3)
    while moment == "builds" and not list(folder.glob("trials/*/.engine.*")):
        assert sweep.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    sweep.kill()
    sweep.wait()
    assert all(ends(trial, 5) for trial in trials)
    with claimed(folder, model):
        assert not list(folder.glob("trials/*/accuracy.json"))


def _children(process: int) -> list[int]:
    try:
        found = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [int(child) for child in found]


def test_damaged_files_of_a_sweep_are_made_again_and_nothing_else(
    swept: Any, model: Path, data: dict[str, Any], tmp_path: Path
) -> None:
    """A cut result repeats its step, a changed engine is built anew, and the rest stays."""
    folder, recipe, first = swept
    mine = tmp_path / "sweep"
    shutil.copytree(folder, mine)
    labels = {trial["label"]: mine / "trials" / trial["key"] for trial in first["trials"]}
    (mine / "qdeploy.json").write_text("")
    (mine / "sweep.json").write_text('{"schema": 2, "tri')
    (labels["fp32"] / "accuracy.ran.json").write_text("")
    latency = labels["dynamic"] / "latency.json"
    latency.write_text(latency.read_text()[:40])
    with (labels["w8a8 symmetric"] / "engine" / "model.onnx").open("r+b") as stream:
        stream.seek(200)
        stream.write(b"?????")
    (labels["peg symmetric"] / "failed.json").write_text("{")
    with steps_that_run() as ran:
        again = qdeploy.sweep(model, mine, recipe=recipe, max_drop=100, **data)
    assert ran == ["fp32 accuracy", "w8a8 accuracy", "dynamic latency"]
    assert [trial["error"] for trial in again["trials"]] == [None] * 4
    for before, after in zip(first["trials"], again["trials"], strict=True):
        assert [before[name] for name in ("value", "n")] == [after["value"], after["n"]]
        assert (before["int8"] or {}).get("executed") == (after["int8"] or {}).get("executed")
    assert again["trials"][3] == first["trials"][3]
    assert json.loads((mine / "sweep.json").read_text())["schema"] == 2
    assert json.loads((mine / "qdeploy.json").read_text())["model"] == str(model)


def test_a_folder_is_of_one_model(
    swept: Any, recipe: Path, data: dict[str, Any], tmp_path: Path
) -> None:
    folder, *_ = swept
    with pytest.raises(OutputError, match="holds the sweep of .*, not of /does/not/exist"):
        qdeploy.sweep("/does/not/exist", folder, recipe=recipe, **data)


def test_two_runs_in_one_folder_are_refused(
    model: Path, recipe: Path, data: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    refused = pytest.raises(OutputError, match=f"Another sweep works in .*process {os.getpid()} ")
    with claimed(folder, model), refused:
        qdeploy.sweep(model, folder, recipe=recipe, **data)


def test_a_shape_beyond_the_model_is_refused_before_the_work(
    model: Path, data: dict[str, Any], tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("latency: {shapes: [1x99999]}\ntrials: [{strategy: w8a8}]\n")
    with pytest.raises(PlanError, match="99999 tokens, and the model takes"):
        qdeploy.sweep(model, tmp_path / "sweep", recipe=recipe, **data)
    assert not (tmp_path / "sweep").exists()
