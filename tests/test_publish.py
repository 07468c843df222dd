"""Directories appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
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
from qdeploy.files.artifact import MANIFEST, read_manifest, write_json, write_manifest
from qdeploy.files.output import check_apart, check_ours
from qdeploy.files.publish import staged
from tests.disks import mounted
from tests.manifests import fields

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


def write(path: Path, text: str, *, force: bool = False) -> None:
    """A whole directory with one file and its manifest."""
    with staged(path, "model", force=force) as work:
        (work / "model.onnx").write_text(text)
        write_manifest(work, "model", fields("model", seed=0))


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
from tests.test_publish import write

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


def _writers(output: Path, *, force: bool) -> list[subprocess.CompletedProcess[str]]:
    """Three processes that write one output at the same time."""
    script = (
        "import sys\nfrom tests.test_publish import write\nfrom pathlib import Path\n"
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
