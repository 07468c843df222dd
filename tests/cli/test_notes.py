"""Which columns are read: one line on standard error, the same for every command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qdeploy.cli import main
from tests.calibrate.encoder import model_directory

pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
LINE = "reviews.csv: text = comment, label = rating; not read: user_id"
COMMANDS = {
    "calibrate": ("calibrate", "model", "--data", "reviews.csv", "--calibration-rows", "4"),
    "analyze": (
        *("analyze", "model", "--data", "reviews.csv", "--calibration-rows", "4"),
        *("--cost-rows", "2"),
    ),
    "build": ("build", "model", "made", "--data", "reviews.csv", "--calibration-rows", "4"),
    "uncalibrated": ("build", "model", "plain", "--data", "reviews.csv", "--strategy", "dynamic"),
    "eval": ("eval", "engine", "--data", "reviews.csv", "--no-latency"),
    "remembered": ("eval", "engine", "--no-latency"),
    "baseline": ("eval", "engine", "--no-latency", "--baseline", "fp32"),
}
PREDICT = "reviews.csv: text = comment; not read: user_id, rating"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model_directory(tmp_path / "model")
    lines = [f"u{at},a film of {at} hours,{at % 2}" for at in range(40)]
    (tmp_path / "reviews.csv").write_text("\n".join(("user_id,comment,rating", *lines)) + "\n")
    monkeypatch.chdir(tmp_path)
    words = ("--strategy", "dynamic", "--no-measure", "-q")
    assert main(["build", "model", "engine", "--data", "reviews.csv", *words]) == 0
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_read_is_said_once_and_beside_the_result(
    name: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = COMMANDS[name]
    capsys.readouterr()
    assert main([*command, "--json", "-"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) and said.err.splitlines().count(LINE) == 1
    assert "text = comment" not in said.err.replace(LINE, "")


def test_quiet_commands_say_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main([*COMMANDS["eval"], "--quiet"]) == 0
    assert main([*COMMANDS["calibrate"], "--quiet"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_predict_says_it_beside_the_answers(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["predict", "engine", "reviews.csv"]) == 0
    said = capsys.readouterr()
    assert len([json.loads(line) for line in said.out.splitlines()]) == 40
    assert said.err.splitlines().count(PREDICT) == 1
    (home / "rows.txt").write_text("a film\n")
    assert main(["predict", "engine", "rows.txt"]) == 0
    assert "text =" not in capsys.readouterr().err  # lines have no columns


def test_a_sweep_says_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "recipe.yaml").write_text(
        "calibration: {rows: 4}\n"
        "latency: {shapes: [1x16], warmup: 1, iterations: 20, threads: 1}\n"
        "trials:\n  - {strategy: dynamic}\n"
    )
    capsys.readouterr()
    words = ("--data", "reviews.csv", "--recipe", "recipe.yaml", "--json", "-")
    assert main(["sweep", "model", "swept", *words]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) and said.err.splitlines().count(LINE) == 1


def test_rows_that_stand_in_are_called_so(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "reviews.csv").unlink()
    (home / "model" / "statistics" / "data.json").unlink(missing_ok=True)
    capsys.readouterr()
    words = ("--strategy", "dynamic", "--force")
    assert main(["build", "model", "engine", *words]) == 0
    said = capsys.readouterr()
    assert "qnli-mini: the noise is measured on these rows, which stand in for yours" in said.err
    assert "of qnli-mini: " in said.out
