"""Outputs that several processes write, and what a kill or a late file leaves."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qdeploy.errors import OutputError
from qdeploy.files import artifact, renames
from qdeploy.files.artifact import read_manifest
from qdeploy.files.output import check_ours
from qdeploy.files.publish import staged
from tests.published import entries, write
from tests.published import whole as whole  # a fixture

ROOT = Path(__file__).parent.parent


WRITER = """
import sys, time
from pathlib import Path
from qdeploy.files.publish import staged
with staged(Path(sys.argv[1]), "model", force=True) as work:
    (work / "model.onnx").write_text("half")
    print("half", flush=True)
    time.sleep(60)
"""


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
    assert [Path(name).suffix for name in entries(tmp_path)] == [".lease", ".partial"]  # hidden
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
    before = entries(tmp_path)
    write(tmp_path / "out", "second")
    assert half.poll() is None
    assert entries(tmp_path) == [*before, "out"]


KILLED_BETWEEN = """
import os, signal, sys
from pathlib import Path
from qdeploy.files import publish
from tests.published import write

def killed(source, target):
    if source.name.endswith(".partial") and not target.exists():
        if any(p.name.endswith(".old") for p in target.parent.iterdir()):
            os.kill(os.getpid(), signal.SIGKILL)
    publish_rename(source, target)

publish_rename, publish.rename_new = publish.rename_new, killed
publish.exchange = lambda *_: False  # as on a file system without it
write(Path(sys.argv[1]), "new", force=True)
"""


def test_a_kill_between_two_renames_brings_the_older_one_back(whole: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED_BETWEEN, str(whole)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not whole.exists()
    with pytest.raises(OutputError, match="already exists"):
        write(whole, "new")
    assert (whole / "model.onnx").read_text() == "old"
    assert entries(tmp_path) == ["out"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_what_appears_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr(renames, "_call", lambda: None)
    output = tmp_path / "out"
    refused = pytest.raises(OutputError, match="appeared while this was made")
    with refused, staged(output, "model") as work:
        (work / "model.onnx").write_text("new")
        output.mkdir()
        (output / "thesis.txt").write_text("three years of work")
    assert entries(output) == ["thesis.txt"]
    assert entries(tmp_path) == ["out"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_a_file_that_appears_in_the_older_one_is_kept(
    whole: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    """At the last moment: after the last look at the directory, before the names are swapped."""
    if not can_exchange:
        monkeypatch.setattr(renames, "_call", lambda: None)
    look = check_ours

    def late(path: Path, place: Path, kind: str) -> None:
        look(path, place, kind)
        if place == whole:
            (whole / "late.txt").write_text("precious")

    monkeypatch.setattr("qdeploy.files.output.check_ours", late)
    with pytest.raises(OutputError, match=r"out holds what qdeploy did not write \(late.txt\)"):
        write(whole, "new", force=True)
    assert (whole / "late.txt").read_text() == "precious"
    assert (whole / "model.onnx").read_text() == "old"
    assert entries(whole.parent) == ["out"]


def _writers(output: Path, *, force: bool) -> list[subprocess.CompletedProcess[str]]:
    """Three processes that write one output at the same time."""
    script = (
        "import sys\nfrom tests.published import write\nfrom pathlib import Path\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        f"write(Path(sys.argv[1]), sys.argv[2], force={force})"
    )
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(output), text], cwd=ROOT, text=True, **pipes
        )
        for text in ("one", "two", "three")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        found.append(subprocess.CompletedProcess([], process.returncode, out, err))
    return found


def _check_whole(output: Path) -> None:
    manifest = read_manifest(output, "model")
    assert manifest["files"] == {"model.onnx": artifact.sha256_file(output / "model.onnx")}
    assert entries(output.parent) == ["out"]


def test_of_three_writers_exactly_one_wins(tmp_path: Path) -> None:
    done = _writers(tmp_path / "out", force=False)
    failed = [process.stderr for process in done if process.returncode]
    assert len(failed) == 2
    assert all("already exists" in text or "appeared while" in text for text in failed)
    _check_whole(tmp_path / "out")


def test_three_writers_with_force_leave_one_whole_directory(tmp_path: Path) -> None:
    write(tmp_path / "out", "old")
    done = _writers(tmp_path / "out", force=True)
    assert [process.returncode for process in done] == [0, 0, 0], done
    _check_whole(tmp_path / "out")


def test_the_name_is_never_without_a_directory(whole: Path) -> None:
    """A reader under constant replacement, where names can be swapped in one step."""
    probe = whole.parent / "probe"
    probe.mkdir()
    if not renames.exchange(probe, whole):
        pytest.skip("this file system cannot swap two names")
    renames.exchange(probe, whole)
    probe.rmdir()
    stop, missing = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            if not whole.exists():
                missing.append(time.monotonic())

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        write(whole, str(number), force=True)
    stop.set()
    reader.join()
    assert not missing
    assert (whole / "model.onnx").read_text() == "199"
