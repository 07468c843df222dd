"""`--baseline fp32`: built beside the engine where it is not there."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.autotune.baseline import find_baseline
from qdeploy.cli import main
from qdeploy.errors import ModelError
from qdeploy.files.artifact import read_manifest
from qdeploy.text import beside
from tests.calibrate.encoder import encoder, model_directory

pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("baseline")
    model_directory(home / "my model")
    qdeploy.build(home / "my model", home / "engine", calibration_rows=8, opt_shape="4x16")
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "home"))


def find(engine: Path, asked: str = "fp32", **options: Any) -> Path:
    return find_baseline(engine, asked, **options)


def test_it_is_built_once_and_compared(home: Path) -> None:
    report = qdeploy.evaluate(home / "engine", baseline="fp32", latency=False)
    place = home / "engine-fp32"
    assert report["baseline"]["engine"] == str(place) and report["baseline"]["strategy"] == "fp32"
    manifest = read_manifest(place, "engine")
    assert manifest["opt_shape"] == [4, 16] and manifest["target"] == "ort-cpu"
    before = (place / "qdeploy.json").stat().st_mtime_ns
    assert find(home / "engine") == place
    assert (place / "qdeploy.json").stat().st_mtime_ns == before


def test_a_directory_of_that_name_comes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    Path("fp32").mkdir()
    assert find(home / "engine") == Path("fp32")
    Path("fp23").mkdir()
    assert find(home / "engine", "fp23") == Path("fp23")


@pytest.mark.parametrize(
    ("asked", "nearest"), [("fp23", "fp32"), ("FP16", "fp16"), ("nowhere/else", None)]
)
def test_a_mistyped_word_is_refused_before_anything_loads(
    asked: str,
    nearest: str | None,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(home)
    assert main(["eval", "engine", "--baseline", asked]) == 2
    text = capsys.readouterr().err
    assert f"--baseline is '{asked}', and no such directory is here." in text
    assert (f"Did you mean '{nearest}'?" in text) == (nearest is not None)
    assert "load" not in text and "or fp32 or fp16, which is built" in text


@pytest.mark.parametrize("folder", ["elsewhere", "deep/er"])
def test_the_model_is_looked_for(
    folder: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = home / folder / "engine"
    engine.parent.mkdir(parents=True)
    (home / "engine").rename(engine)
    monkeypatch.chdir(tmp_path)
    if folder == "elsewhere":  # one level up
        assert find(engine) == beside(engine, "fp32")
        return
    with pytest.raises(ModelError, match="is not beside it.*--model MODEL_DIR"):
        find(engine)
    assert find(engine, model=home / "my model") == beside(engine, "fp32")


def test_another_model_or_engine_in_its_place_is_refused(home: Path) -> None:
    shutil.rmtree(home / "my model")
    model_directory(home / "my model", encoder(seed=5))
    with pytest.raises(ModelError, match="my model holds another model"):
        find(home / "engine")
    shutil.copytree(home / "engine", home / "engine-fp32")
    with pytest.raises(ModelError, match="its strategy is another. Move it away"):
        find(home / "engine")


@pytest.mark.parametrize(
    ("lies", "said"),
    [
        ("a file", "is a file, and stands where the fp32 baseline is built"),
        ("an empty directory", "is an empty directory, and stands"),
        ("a directory of somebody", "is a directory without qdeploy.json, and stands"),
        ("a model", "is a model directory, and stands"),
        ("a link to nothing", "is a link that leads nowhere, and stands"),
    ],
)
def test_what_lies_in_its_place_is_said(lies: str, said: str, home: Path) -> None:
    place = home / "engine-fp32"
    if lies == "a file":
        place.write_text("x")
    elif lies == "a model":
        shutil.copytree(home / "my model", place)
    elif lies == "a link to nothing":
        place.symlink_to("nowhere")
    else:
        place.mkdir()
        if lies != "an empty directory":
            (place / "notes.txt").write_text("x")
    with pytest.raises(ModelError) as refused:
        find(home / "engine")
    text = str(refused.value)
    assert text.startswith(f"{place} {said}")
    assert text.endswith("Move it away, or name an engine with --baseline ENGINE_DIR.")
    assert os.path.lexists(place)


def test_a_shape_that_the_model_cannot_take_is_cut_for_the_baseline(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions built engines for more tokens than the model takes."""
    with monkeypatch.context() as earlier:
        earlier.setattr("qdeploy.deploy.request.check_shape", lambda *_: None)
        qdeploy.build(home / "my model", home / "old", calibration_rows=8, opt_shape="4x10000")
    longest = read_manifest(home / "my model", "model")["max_length"]
    assert read_manifest(find(home / "old"), "engine")["opt_shape"] == [4, longest]


def test_what_comes_next_can_be_pasted(home: Path, tmp_path: Path) -> None:
    """Every line after `Next:` runs, from export's to eval's, whatever the directory is called."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "qdeploy", *words]
        done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = run("build", "my model", "an engine", "--calibration-rows", "8", "--no-measure")
    (line,) = [line for line in said.splitlines() if line.startswith("Next: ")]
    words = shlex.split(line.removeprefix("Next: "))
    assert words == ["qdeploy", "eval", "an engine", "--baseline", "fp32"]
    assert "drop" in run(*words[1:], "--no-latency")
