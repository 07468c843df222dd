"""Reports replace older reports, and nothing else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

import qdeploy
from qdeploy.cli import main
from qdeploy.errors import OutputError
from qdeploy.files import whole
from qdeploy.files.artifact import MANIFEST, write_manifest
from qdeploy.files.whole import check_file, check_reports, write_file
from qdeploy.sweep import stored
from tests.calibrate.encoder import model_directory
from tests.manifests import fields


def test_a_private_report_stays_private(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_file("--json", path, b"1")
    path.chmod(0o600)
    write_file("--json", path, b"2")
    assert path.read_bytes() == b"2" and stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_leads_on_and_a_loop_is_said(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("r.json")
    write_file("--json", tmp_path / "link", b"1")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "r.json").read_bytes() == b"1"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match="loop of links"):
        check_file("--json", tmp_path / "loop")
    with pytest.raises(OutputError, match="loop of links"):
        write_file("--json", tmp_path / "loop", b"1")
    assert (tmp_path / "loop").is_symlink()


@pytest.fixture
def given(tmp_path: Path) -> list[Path]:
    """An engine, a checkpoint, rows in a folder and alone, a recipe, a sweep."""
    engine, checkpoint, rows, sweep = (tmp_path / name for name in ("e", "c", "d", "s"))
    for folder in (engine, checkpoint, rows, sweep):
        folder.mkdir()
    for path in (engine / "model.onnx", checkpoint / "config.json", rows / "dev.tsv"):
        path.write_text("{}")
    write_manifest(engine, "engine", fields("engine"))
    (sweep / MANIFEST).write_text('{"schema": 1, "kind": "sweep", "model": "m"}')
    (sweep / "rows.jsonl").touch()
    alone = [tmp_path / "rows.tsv", tmp_path / "recipe.yaml"]
    for path in alone:
        path.touch()
    return [engine, checkpoint, rows, sweep, *alone]


@pytest.mark.parametrize(
    "name",
    [
        *("rows.tsv", "recipe.yaml", "e/model.onnx", "e/qdeploy.json", "c/config.json"),
        *("d/dev.tsv", "s/rows.jsonl", "link", "./d/../rows.tsv"),
    ],
)
def test_what_a_command_reads_is_no_report(given: list[Path], name: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("rows.tsv")
    with pytest.raises(OutputError, match=r"--json .* would replace what belongs to "):
        check_reports({"--json": tmp_path / name}, given)


@pytest.mark.parametrize(
    "name", ["e/report.json", "s/report.json", "d/report.json", "new.json", os.devnull]
)
def test_an_older_report_is_replaced(given: list[Path], name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if path.parent != tmp_path and not path.exists():
        path.write_text("{}")
    check_reports({"--json": path, "--html": tmp_path / "r.html"}, given)


def test_two_reports_are_two_files(tmp_path: Path) -> None:
    both = {"--json": tmp_path / "r", "--html": tmp_path / "." / "r"}
    with pytest.raises(OutputError, match="name the same file"):
        check_reports(both, [])


def test_functions_refuse_it_too(tmp_path: Path) -> None:
    model = model_directory(tmp_path / "m")
    with pytest.raises(OutputError, match="--html .* would replace what belongs to"):
        qdeploy.analyze(model, html=model / "model.onnx")


def test_what_a_sweep_is_made_of_is_known() -> None:
    assert set(stored.OWN) == set(whole._OF_A_SWEEP)


def test_commands_refuse_it_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_directory(tmp_path / "m")
    before = (model / "model.onnx").read_bytes()
    graph = str(model / "model.onnx")
    for words in (
        ["inspect", graph, "--json", graph],
        ["inspect", str(model), "--json", graph],
        ["calibrate", str(model), "--json", graph],
        ["build", str(model), str(tmp_path / "e"), "--strategy", "fp32", "--json", graph],
    ):
        assert main([*words, "-q"]) == 2
        assert "would replace what belongs to" in capsys.readouterr().err
    assert (model / "model.onnx").read_bytes() == before and not (tmp_path / "e").exists()
