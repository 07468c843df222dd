"""Directories appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qdeploy import artifact
from qdeploy.artifact import MANIFEST, read_manifest, write_manifest
from qdeploy.errors import OutputError
from qdeploy.publish import leftovers, staged

WRITER = """
import sys, time
from pathlib import Path
from qdeploy.artifact import write_manifest
from qdeploy.publish import leftovers, staged
with staged(Path(sys.argv[1]), force=True) as work:
    (work / "model.onnx").write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""


def write(path: Path, text: str, *, force: bool = False) -> None:
    """A whole directory with one file and its manifest."""
    with staged(path, force=force) as work:
        (work / "model.onnx").write_text(text)
        write_manifest(work, "model", {"seed": 0})


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A directory that qdeploy wrote."""
    write(tmp_path / "out", "old")
    return tmp_path / "out"


@pytest.fixture
def half(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has written half of `out` and goes on."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_whole_directory_appears_and_nothing_beside_it(whole: Path) -> None:
    assert entries(whole.parent) == ["out"]
    assert entries(whole) == ["model.onnx", MANIFEST]


def test_nothing_stands_under_the_name_before_the_end(tmp_path: Path) -> None:
    with staged(tmp_path / "out") as work:
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
    with pytest.raises(type(error)), staged(whole, force=True) as work:
        (work / "model.onnx").write_text("half")
        raise error
    assert (whole / "model.onnx").read_text() == "old"
    assert entries(whole.parent) == ["out"]


def test_ctrl_c_leaves_nothing(tmp_path: Path, half: subprocess.Popen[str]) -> None:
    half.send_signal(signal.SIGINT)
    half.wait(timeout=10)
    assert entries(tmp_path) == []


def test_a_killed_run_leaves_nothing_under_the_name_and_the_next_one_works(
    tmp_path: Path, half: subprocess.Popen[str]
) -> None:
    half.kill()
    half.wait(timeout=10)
    assert not (tmp_path / "out").exists()
    assert len(entries(tmp_path)) == 1  # the leftover, hidden
    write(tmp_path / "out", "new")
    assert entries(tmp_path) == ["out"]


def test_a_killed_run_leaves_the_older_directory(
    whole: Path, tmp_path: Path, half: subprocess.Popen[str]
) -> None:
    half.kill()
    half.wait(timeout=10)
    assert (whole / "model.onnx").read_text() == "old"
    write(whole, "new", force=True)
    assert entries(tmp_path) == ["out"]


def test_a_run_that_is_still_writing_is_not_swept(
    tmp_path: Path, half: subprocess.Popen[str]
) -> None:
    write(tmp_path / "out", "second")
    assert half.poll() is None
    assert entries(tmp_path) == [f".out.{half.pid}.partial", "out"]


def test_an_output_with_a_longer_name_is_not_swept(tmp_path: Path) -> None:
    """`.out.v2.PID.partial` belongs to `out.v2`, whoever writes `out` now."""
    other = tmp_path / f".out.v2.{_dead_pid()}.partial"
    other.mkdir()
    write(tmp_path / "out", "new")
    assert other.is_dir()


def test_a_kill_between_the_two_renames_brings_the_older_one_back(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / f".out.{_dead_pid()}.old.partial")
    with pytest.raises(OutputError, match="already exists"):
        write(tmp_path / "out", "new")
    assert (tmp_path / "out" / "model.onnx").read_text() == "old"
    assert entries(tmp_path) == ["out"]


def _dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


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


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(artifact, "write_json", full)
    with pytest.raises(OutputError, match=r"The disk is full; .* Free space and run again"):
        write(tmp_path / "out", "new")
    assert entries(tmp_path) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where this machine lets one be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_really_full_disk_is_said_and_keeps_the_older_one(tiny_disk: Path) -> None:
    write(tiny_disk / "out", "old")
    with pytest.raises(OutputError, match="The disk is full"):
        write(tiny_disk / "out", "x" * 100_000, force=True)
    assert (tiny_disk / "out" / "model.onnx").read_text() == "old"
    assert entries(tiny_disk) == ["out"]


def test_two_writers_leave_one_whole_directory(tmp_path: Path) -> None:
    """The slower one is told that the output exists by now, or replaces it; never half of each."""
    command = [
        sys.executable,
        "-c",
        "import sys\nfrom tests.test_publish import write\nfrom pathlib import Path\n"
        "write(Path(sys.argv[1]), sys.argv[2], force=True)",
        str(tmp_path / "out"),
    ]
    root = Path(__file__).parent.parent
    processes = [
        subprocess.Popen([*command, text], cwd=root, stderr=subprocess.DEVNULL)
        for text in ("one", "two")
    ]
    deadline = time.monotonic() + 60
    for process in processes:
        process.wait(timeout=deadline - time.monotonic())
    manifest = read_manifest(tmp_path / "out", "model")
    assert manifest["files"] == {
        "model.onnx": artifact.sha256_file(tmp_path / "out" / "model.onnx")
    }
    assert entries(tmp_path) == ["out"]


def test_only_temporary_files_of_dead_processes_are_leftovers(tmp_path: Path) -> None:
    dead = _dead_pid()
    for owner in (os.getppid(), dead, "word"):
        (tmp_path / f".out.{owner}.partial").touch()
    assert [path.name for path in leftovers(tmp_path / "out")] == [f".out.{dead}.partial"]
