"""Outputs at odd places: links, names, parents, disks that refuse."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qdeploy.errors import OutputError
from qdeploy.files.artifact import MANIFEST, write_manifest
from qdeploy.files.output import check_apart
from qdeploy.files.publish import staged
from tests.disks import mounted
from tests.manifests import fields
from tests.published import entries, write
from tests.published import whole as whole  # a fixture


def test_an_output_that_is_a_link_stays_one(whole: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to("out")
    with pytest.raises(OutputError, match="already exists"):
        write(link, "new")
    write(link, "new", force=True)
    assert link.is_symlink()
    assert (whole / "model.onnx").read_text() == "new"
    assert entries(tmp_path) == ["current", "out"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("target", ["nowhere", "link"])
def test_a_link_that_leads_nowhere_is_said(tmp_path: Path, target: str, force: bool) -> None:
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(OutputError, match="is a link"):
        write(tmp_path / "link", "new", force=force)
    assert entries(tmp_path) == ["link"]


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("target", ["directory", "engine", "nowhere"])
def test_a_link_that_appears_meanwhile_stays(tmp_path: Path, target: str, force: bool) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    if target != "nowhere":
        elsewhere.mkdir()
    if target == "engine":
        write_manifest(elsewhere, "engine", fields("engine"))
    before = sorted(path.name for path in elsewhere.glob("*"))
    with pytest.raises(OutputError), staged(out, "engine", force=force) as work:
        write_manifest(work, "engine", fields("engine"))
        out.symlink_to(elsewhere)
    assert out.is_symlink() and sorted(path.name for path in elsewhere.glob("*")) == before
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "elsewhere"}


@pytest.mark.parametrize("name", ["l1", "l1/x", "l1/x/y"])
def test_a_loop_of_links_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "l1").symlink_to("l2")
    (tmp_path / "l2").symlink_to("l1")
    (tmp_path / "model").mkdir()
    check_apart(tmp_path / name, [tmp_path / "model"])
    with (
        pytest.raises(OutputError, match="leads to itself"),
        staged(tmp_path / name, "engine", force=True),
    ):
        pass


def test_two_dots_behind_a_link_lead_where_the_system_leads(tmp_path: Path) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/sub")
    with staged(tmp_path / "link" / ".." / "out", "engine") as work:
        write_manifest(work, "engine", fields("engine"))
    assert (tmp_path / "real" / "out" / MANIFEST).exists() and not (tmp_path / "out").exists()
    with (
        pytest.raises(OutputError, match="already exists"),
        staged(tmp_path / "real" / "sub" / "..", "engine"),
    ):
        pass


def test_parents_that_were_made_go_after_a_failure(tmp_path: Path) -> None:
    with pytest.raises(ValueError), staged(tmp_path / "a" / "b" / "out", "model"):
        raise ValueError
    assert entries(tmp_path) == []


def test_an_error_of_something_else_is_not_the_outputs(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), staged(tmp_path / "out", "model"):
        (tmp_path / "elsewhere").read_text()


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "[red]x", "-", "a b"])
def test_any_name_that_a_folder_may_have(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, "old")
    write(tmp_path / name, "new", force=True)
    assert (tmp_path / name / "model.onnx").read_text() == "new"
    assert entries(tmp_path) == [name]


def test_a_name_that_is_too_long_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="too long"):
        write(tmp_path / ("x" * 256), "new")
    with pytest.raises(OutputError, match="too long"):
        write(tmp_path / ("x" * 256) / "out", "new")
    assert entries(tmp_path) == []


def test_an_output_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    if os.geteuid() == 0:  # root writes through permissions, but not into the kernel's folders
        parent = Path("/sys/kernel")
        if not parent.is_dir():
            pytest.skip("no folder that root cannot write")
    else:
        parent = tmp_path / "closed"
        parent.mkdir(mode=0o555)
    with pytest.raises(OutputError, match=r"cannot be written: .*\. Name another output"):
        write(parent / "out", "new")


def test_a_file_in_the_place_of_the_parent_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/out (was not written|cannot be written): "):
        write(tmp_path / "file" / "out", "new")


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where this machine lets one be mounted."""
    with mounted(tmp_path / "disk", 64) as disk:
        yield disk


def test_a_really_full_disk_is_said_and_keeps_the_older_one(tiny_disk: Path) -> None:
    write(tiny_disk / "out", "old")
    with pytest.raises(OutputError, match="The disk is full"):
        write(tiny_disk / "out", "x" * 100_000, force=True)
    assert (tiny_disk / "out" / "model.onnx").read_text() == "old"
    assert entries(tiny_disk) == ["out"]
