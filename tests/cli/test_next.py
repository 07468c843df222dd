"""What stands after `Next:` runs when it is pasted, wherever and whatever stands there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qdeploy.cli import main, tables
from tests.calibrate.encoder import model_directory
from tests.manifests import fields

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here"),
]
NAMES = ("a model", "-x", 'it\'s "odd"', "$HOME;ls", "new\nline")


def shell(line: str, home: Path) -> str:
    """Standard output of a pasted line."""
    function = f'qdeploy() {{ "{sys.executable}" -m qdeploy "$@"; }}'
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [str(shutil.which("bash")), "-c", f"{function}\n{line}"]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return done.stdout


def following(said: str) -> str:
    (line,) = [line for line in said.splitlines() if line.startswith("Next: ")]
    return line.removeprefix("Next: ")


@pytest.mark.parametrize("name", NAMES)
def test_from_analyze_to_predict(name: str, tmp_path: Path) -> None:
    model_directory(tmp_path / name)
    (tmp_path / "rows.csv").write_text(
        "question,sentence,label\n"
        + "".join(f"who {i}?,it is {'x ' * (i % 5)}.,{i % 2}\n" for i in range(40))
    )
    show = "import sys; from qdeploy.commands import command; from pathlib import Path; "
    show += "print(command('analyze', Path(sys.argv[1])))"
    first = subprocess.run(
        [sys.executable, "-c", show, name], capture_output=True, text=True, check=True
    ).stdout.strip()
    (tmp_path / f"{name}-peg").write_text("something of somebody")
    (tmp_path / f"{name}-w8a8").mkdir()
    said = shell(f"{first} --data rows.csv --calibration-rows 8 --cost-rows 4", tmp_path)
    said = shell(following(said), tmp_path)
    quick = "--seconds 0.2 --no-own-lengths"
    line = following(said)
    assert "--baseline fp32" in line and "--model" not in line
    said = shell(f"{line} --data rows.csv {quick}", tmp_path)
    assert '"label"' in shell(following(said), tmp_path)


def test_a_model_elsewhere_and_labels_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "models" / "of").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    model_directory(tmp_path / "models" / "of" / "mine")
    lines = [f"who {i}?,it is he.,{('pos', 'neg')[i % 2]}" for i in range(24)]
    (tmp_path / "rows.csv").write_text("\n".join(["question,sentence,label", *lines]) + "\n")
    said = shell(
        "qdeploy build models/of/mine out/e --data rows.csv --calibration-rows 8", tmp_path
    )
    assert "has the class 'pos', and the model knows" in " ".join(said.split())
    line = following(said)
    assert line == ("qdeploy eval out/e --baseline fp32 --model models/of/mine --no-accuracy")
    shell(f"{line} --seconds 0.2 --no-own-lengths", tmp_path)


def test_something_in_the_place_of_the_baseline(tmp_path: Path) -> None:
    model_directory(tmp_path / "model")
    (tmp_path / "e-fp32").write_text("a file")
    said = shell("qdeploy build model e --calibration-rows 8", tmp_path)
    assert following(said) == "qdeploy eval e" and "move e-fp32 away" in said
    shell(f"{following(said)} --seconds 0.2 --no-own-lengths --limit 16", tmp_path)


def test_a_dry_run_is_simulated(tmp_path: Path) -> None:
    model_directory(tmp_path / "model")
    said = shell("qdeploy build model e --calibration-rows 8 --dry-run --no-measure", tmp_path)
    assert following(said) == "qdeploy eval e --simulate"
    assert "Next:" not in shell(f"{following(said)} --limit 16", tmp_path)


@pytest.mark.parametrize("task", ["sequence-classification", "token-classification"])
def test_export_says_what_can_be_built(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-m-peg").mkdir()
    tables.model(fields("model", task=task), Path("-m"))
    assert following(capsys.readouterr().out) == "qdeploy build ./-m ./-m-peg-2"


def test_the_others_end_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    """README.md says which commands end with the next."""
    readme = Path(__file__).parents[2] / "README.md"
    said = " ".join(readme.read_text("utf-8").split())
    assert "`export`, `analyze`, `build` and `eval` end with the next command to type." in said
    assert main(["doctor"]) == 0
    assert "Next:" not in capsys.readouterr().out
