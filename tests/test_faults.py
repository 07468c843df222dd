"""Errors of the machine say which file, what is wrong with it, and what to do."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from qdeploy.errors import GateError, MachineError, OutputError
from qdeploy.files.artifact import write_bytes
from qdeploy.files.scratch import scratch
from qdeploy.machine import system_errors
from qdeploy.machine.faults import explain, explained, machine_fault
from tests.disks import mounted

NUMBERS = sorted(errno.errorcode)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", [None, "here/x.json", b"here/x\xff.json"])
def test_every_number_has_a_text_with_its_file(number: int, name: str | bytes | None) -> None:
    found = explain(OSError(number, os.strerror(number), name))
    assert isinstance(found, MachineError) and found.exit_code == 2
    assert str(found).endswith((".", ").")) and "None" not in str(found)
    if name is not None and number != errno.ENOMEM:  # memory has no file
        assert "here/x" in str(found)


def test_the_target_of_two_files_is_blamed() -> None:
    error = OSError(errno.EROFS, "Read-only file system", "from", None, "to")
    assert str(explain(error)).startswith("to cannot be written: its file system is read-only.")
    assert "from" in str(explain(error))


def _long(folder: Path) -> None:
    (folder / ("x" * 300)).touch()


def _loop(folder: Path) -> None:
    (folder / "a").symlink_to(folder / "a")
    (folder / "a").read_bytes()


def _below_a_file(folder: Path) -> None:
    (folder / "file").touch()
    (folder / "file" / "x").read_bytes()


def _missing(folder: Path) -> None:
    (folder / "no" / "x").read_bytes()


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (_long, "a name that is too long"),
        (_loop, "a is a loop of links"),
        (_below_a_file, "file is not a directory"),
        (_missing, "x does not exist"),
    ],
)
def test_real_paths(act: Callable[[Path], None], text: str, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=text), explained():
        act(tmp_path)


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(MachineError, match="The working directory was removed"), explained():
        Path("x").absolute()
    monkeypatch.chdir(tmp_path)


def test_memory_is_told_by_class_and_by_words() -> None:
    for error in (
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer"),
        RuntimeError("std::bad_alloc"),
        ImportError("x.so: cannot map: Cannot allocate memory"),
    ):
        found = machine_fault(error)
        assert found is not None and str(found).startswith("Out of memory")
        assert "--batch-size" in str(found)


@pytest.mark.parametrize(
    "error", [ValueError("x"), BrokenPipeError(), OutputError("x"), KeyError("memory")]
)
def test_other_errors_are_none_of_the_machine(error: Exception) -> None:
    assert machine_fault(error) is None
    with pytest.raises(type(error)), explained():
        raise error


def test_names_and_depths() -> None:
    with pytest.raises(MachineError, match=r"not UTF-8 in 'a\\udcff'"), explained():
        "a\udcff".encode()
    with pytest.raises(MachineError, match="nested too deeply"), explained():
        raise RecursionError
    with pytest.raises(MachineError, match="Too many files are open"), explained():
        raise ImportError("x.so: cannot open shared object file: Too many open files")
    with pytest.raises(MachineError, match="No further thread"), explained():
        raise RuntimeError("can't start new thread")


def test_a_full_disk_names_the_file_and_keeps_the_older_one(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 16) as disk:
        write_bytes(disk / "x.json", b"old")
        full = pytest.raises(MachineError, match=r"The disk of .*disk is full; .*x\.json was not")
        with full, explained():
            write_bytes(disk / "x.json", bytes(100_000))
        assert (disk / "x.json").read_bytes() == b"old"
        assert [path.name for path in disk.iterdir()] == ["x.json"]


def test_a_full_disk_without_a_name_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mounted(tmp_path / "disk", 16) as disk:
        monkeypatch.setattr(tempfile, "tempdir", str(disk))
        text = str(explain(OSError(errno.ENOSPC, "No space left on device")))
        assert f"The disk of {disk} is full" in text and "TMPDIR" in text


def test_a_block_that_fails_on_a_full_temporary_directory_fails_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ValueError, match="cut"), scratch("test"):
        raise ValueError("cut")
    monkeypatch.setattr("qdeploy.files.scratch.is_full", lambda _: True)
    full = pytest.raises(OutputError, match=f"temporary directory {tmp_path} is full")
    with full, scratch("test"):
        raise ValueError("a cut file")
    with pytest.raises(GateError, match="not held"), scratch("test"):
        raise GateError("not held")
    assert not list(tmp_path.iterdir())


def test_the_first_directory_that_may_not_be_entered_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "in").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system_errors, "_may", lambda path, mode: path != closed)
        text = str(explain(PermissionError(errno.EACCES, "denied", str(closed / "in" / "x"))))
    assert f"the directory {closed} may not be entered" in text
