"""What stands after `Next:` runs when it is pasted, wherever and whatever stands there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from qdeploy import commands
from qdeploy.cli import main, tables
from tests.calibrate.encoder import model_directory
from tests.manifests import fields

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here"),
]
NAMES = ("a model", "-x", 'it\'s "odd"', "$HOME;ls", "new\nline")


Shell = Callable[[str], str]


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """Standard output of a line that is pasted in `tmp_path`.

    bash makes words of it, with a function in the command's place; the words run in this process.
    """
    monkeypatch.chdir(tmp_path)
    words = 'qdeploy() { printf "%s\\0" "$@"; }'

    def run(line: str) -> str:
        command = [str(shutil.which("bash")), "-c", f"{words}\n{line}"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.endswith("\0"), f"{line}\n{done.stderr}"
        capsys.readouterr()
        code = main(done.stdout.split("\0")[:-1])
        said = capsys.readouterr()
        assert code == 0, f"{line}\n{said.err}"
        return said.out

    return run


def following(said: str) -> str:
    (line,) = [line for line in said.splitlines() if line.startswith("Next: ")]
    return line.removeprefix("Next: ")


@pytest.mark.parametrize("name", NAMES)
def test_from_analyze_to_predict(name: str, shell: Shell, tmp_path: Path) -> None:
    model_directory(tmp_path / name)
    (tmp_path / "rows.csv").write_text(
        "question,sentence,label\n"
        + "".join(f"who {i}?,it is {'x ' * (i % 5)}.,{i % 2}\n" for i in range(40))
    )
    first = commands.command("analyze", Path(name))
    (tmp_path / f"{name}-peg").write_text("something of somebody")
    (tmp_path / f"{name}-w8a8").mkdir()
    said = shell(f"{first} --data rows.csv --calibration-rows 8 --cost-rows 4")
    said = shell(following(said))
    quick = "--seconds 0.2 --no-traffic"
    line = following(said)
    assert "--baseline fp32" in line and "--model" not in line
    said = shell(f"{line} --data rows.csv {quick}")
    assert '"label"' in shell(following(said))


def test_a_model_elsewhere_and_labels_that_do_not_fit(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "models" / "of").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    model_directory(tmp_path / "models" / "of" / "mine")
    lines = [f"who {i}?,it is he.,{('pos', 'neg')[i % 2]}" for i in range(24)]
    (tmp_path / "rows.csv").write_text("\n".join(["question,sentence,label", *lines]) + "\n")
    said = shell("qdeploy build models/of/mine out/e --data rows.csv --calibration-rows 8")
    assert "has the class 'pos', and the model knows" in " ".join(said.split())
    line = following(said)
    assert line == ("qdeploy eval out/e --baseline fp32 --model models/of/mine --no-accuracy")
    shell(f"{line} --seconds 0.2 --no-traffic")


def test_something_in_the_place_of_the_baseline(shell: Shell, tmp_path: Path) -> None:
    model_directory(tmp_path / "model")
    (tmp_path / "e-fp32").write_text("a file")
    said = shell("qdeploy build model e --calibration-rows 8")
    assert following(said) == "qdeploy eval e" and "move e-fp32 away" in said
    shell(f"{following(said)} --seconds 0.2 --no-traffic --limit 16")


def test_a_dry_run_is_simulated(shell: Shell, tmp_path: Path) -> None:
    model_directory(tmp_path / "model")
    said = shell("qdeploy build model e --calibration-rows 8 --dry-run --no-measure")
    assert following(said) == "qdeploy eval e --simulate"
    assert "Next:" not in shell(f"{following(said)} --limit 16")


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
