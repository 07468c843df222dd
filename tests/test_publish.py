"""Directories appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from qdeploy.errors import OutputError
from qdeploy.files.artifact import MANIFEST, write_json
from qdeploy.files.publish import staged
from tests.published import entries, write
from tests.published import whole as whole  # a fixture


def test_a_whole_directory_appears_and_nothing_beside_it(whole: Path) -> None:
    assert entries(whole.parent) == ["out"]
    assert entries(whole) == ["model.onnx", MANIFEST]


def test_nothing_stands_under_the_name_before_the_end(tmp_path: Path) -> None:
    with staged(tmp_path / "out", "model") as work:
        (work / "model.onnx").write_text("half")
        assert not (tmp_path / "out").exists()


def test_missing_parents_are_made(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "out", "new")
    assert (tmp_path / "a" / "b" / "out" / MANIFEST).is_file()


def test_an_existing_output_is_refused_and_stays(whole: Path) -> None:
    with pytest.raises(OutputError, match=r"already exists\. Pass --force to replace it"):
        write(whole, "new")
    assert (whole / "model.onnx").read_text() == "old"


def test_force_replaces_what_qdeploy_wrote(whole: Path) -> None:
    write(whole, "new", force=True)
    assert (whole / "model.onnx").read_text() == "new"
    assert entries(whole.parent) == ["out"]


def test_force_takes_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", "new", force=True)
    assert (tmp_path / "out" / "model.onnx").read_text() == "new"


def test_force_leaves_foreign_directories_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="files that qdeploy did not write"):
        write(tmp_path / "out", "new", force=True)
    assert entries(tmp_path / "out") == ["thesis.tex"]


def test_force_leaves_files_alone(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="is a file; the output is a directory"):
        write(tmp_path / "out", "new", force=True)


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_the_old_directory_survives_a_failure(whole: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), staged(whole, "model", force=True) as work:
        (work / "model.onnx").write_text("half")
        raise error
    assert (whole / "model.onnx").read_text() == "old"
    assert entries(whole.parent) == ["out"]


@pytest.mark.parametrize(
    "foreign",
    ["NOTES.md", "experiments/run1.csv", ".env", "statistics/notes.txt", "model.onnx.bak"],
)
def test_force_names_a_file_that_qdeploy_did_not_write(whole: Path, foreign: str) -> None:
    path = whole / foreign
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(OutputError, match=f"did not write \\({foreign}\\)"):
        write(whole, "new", force=True)
    assert path.read_text() == "mine"
    assert (whole / "model.onnx").read_text() == "old"


def test_force_names_a_link_and_leaves_its_target(whole: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "a").write_text("a")
    (whole / "linked").symlink_to(precious)
    with pytest.raises(OutputError, match=r"did not write \(linked\)"):
        write(whole, "new", force=True)
    assert entries(precious) == ["a"]


def test_statistics_of_a_model_go_with_it(whole: Path) -> None:
    (whole / "statistics").mkdir()
    (whole / "statistics" / f"{'0a' * 10}.npz").touch()
    write(whole, "new", force=True)
    assert entries(whole) == ["model.onnx", MANIFEST]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"kind": 3}', '{"kind": "model", "files": 1}'],
)
def test_force_wants_a_manifest_that_says_what_is_there(whole: Path, text: str) -> None:
    (whole / MANIFEST).write_text(text)
    with pytest.raises(OutputError, match="does not say what is in"):
        write(whole, "new", force=True)
    assert (whole / "model.onnx").read_text() == "old"


@pytest.mark.parametrize("kind", ["engine", "sweep", "demo"])
def test_force_replaces_its_own_kind_alone(whole: Path, kind: str) -> None:
    write_json(whole / MANIFEST, {"schema": 1, "kind": kind, "files": {"model.onnx": "0"}})
    with pytest.raises(OutputError, match=f"of kind '{kind}'.*of kind 'model'"):
        write(whole, "new", force=True)
    assert (whole / "model.onnx").read_text() == "old"
