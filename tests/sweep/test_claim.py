"""A sweep's folder is of one run at a time, whoever was killed in it before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qdeploy.errors import OutputError
from qdeploy.files.artifact import MANIFEST
from qdeploy.files.lease import holder_of, take
from qdeploy.sweep import claim
from qdeploy.sweep.claim import LOCK, claimed
from tests.test_lease import _namespace

ROOT = Path(__file__).parent.parent.parent
# Claims a folder, starts a trial that holds its lock and is tied to nobody, and waits.
SWEEP = """
import subprocess, sys, time
from pathlib import Path
from qdeploy.sweep.claim import claimed
with claimed(Path(sys.argv[1]), "m") as lease:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                             pass_fds=[lease.descriptor()], stdout=subprocess.DEVNULL)
    print(child.pid, flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_is_made_and_left_without_a_lock(tmp_path: Path) -> None:
    with claimed(tmp_path / "a" / "sw", "m"):
        assert names(tmp_path / "a" / "sw") == {MANIFEST, "trials", LOCK}
    assert names(tmp_path / "a" / "sw") == {MANIFEST, "trials"}
    assert json.loads((tmp_path / "a" / "sw" / MANIFEST).read_text())["model"] == "m"


def test_what_killed_runs_left_goes(tmp_path: Path) -> None:
    folder = tmp_path / "sw"
    with claimed(folder, "m"):
        pass
    (folder / "running.pid").write_text("1")
    (folder / ".rows.jsonl.0123456789ab.partial").write_text("half")
    (folder / ".draft.partial").mkdir()
    (folder / "trials" / "a" / ".x.0123456789ab.partial").mkdir(parents=True)
    (folder / "trials" / "a" / ".x.0123456789ab.lease").touch()
    (folder / "trials" / "a" / "kept.json").touch()
    with claimed(folder, "m"):
        assert names(folder) == {MANIFEST, "trials", LOCK, ".draft.partial"}
        assert names(folder / "trials" / "a") == {"kept.json"}


@pytest.mark.parametrize(
    "name", ["model/thesis.txt", "trials/p1.csv", "rows.jsonl", "sweep.json", "statistics.npz"]
)
def test_a_folder_without_a_manifest_is_somebody_elses(name: str, tmp_path: Path) -> None:
    path = tmp_path / "study" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with (
        pytest.raises(OutputError, match="study is no folder of a sweep"),
        claimed(tmp_path / "study", "m"),
    ):
        pass
    assert path.read_text() == "mine"


def test_a_sweep_that_fails_before_it_keeps_anything_leaves_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "sw"
    with pytest.raises(ZeroDivisionError), claimed(folder, "m"):
        raise ZeroDivisionError
    assert not folder.exists()
    folder.mkdir()
    with pytest.raises(ZeroDivisionError), claimed(folder, "m"):
        raise ZeroDivisionError
    assert folder.exists()


CUT = [
    "",
    "{",
    "\x00\x00",
    "[]",
    "null",
    "{}",
    '{"kind": "sweep"}',
    '{"kind": "sweep", "model": 3}',
]


@pytest.mark.parametrize("text", CUT)
def test_a_manifest_that_was_cut_is_written_anew(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "sw"
    with claimed(folder, "m"):
        (folder / "trials" / "done").mkdir()
    (folder / MANIFEST).write_text(text)
    with claimed(folder, "m"):
        pass
    assert json.loads((folder / MANIFEST).read_text())["model"] == "m"
    assert names(folder / "trials") == {"done"}


def test_a_cut_manifest_does_not_hide_whose_model_was_exported(tmp_path: Path) -> None:
    folder = tmp_path / "sw"
    with claimed(folder, "ckpt"):
        (folder / "model").mkdir()
    (folder / "model" / MANIFEST).write_text('{"kind": "model", "source": {"path": "ckpt"}}')
    (folder / MANIFEST).write_text("")
    with pytest.raises(OutputError, match="holds the sweep of ckpt, not of other"):
        claimed(folder, "other").__enter__()
    with claimed(folder, "ckpt"):
        pass


@pytest.mark.parametrize(
    ("manifest", "other"),
    [("", "model.onnx"), ("{", "a.txt"), (None, "a.txt"), ('{"kind": "engine"}', "trials")],
)
def test_another_folder_is_no_sweeps(manifest: str | None, other: str, tmp_path: Path) -> None:
    if manifest is not None:
        (tmp_path / MANIFEST).write_text(manifest)
    (tmp_path / other).touch()
    before = names(tmp_path)
    with pytest.raises(OutputError, match="is no folder of a sweep"):
        claimed(tmp_path, "m").__enter__()
    assert names(tmp_path) == before


def test_a_trial_that_outlives_its_sweep_keeps_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the lock too; the next sweep waits for it, and says who is there if it stays."""
    folder = tmp_path / "sw"
    command = [sys.executable, "-c", SWEEP, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as sweep:
        assert sweep.stdout is not None
        trial = int(sweep.stdout.readline())
        with pytest.raises(OutputError, match=f"Another sweep works .*process {sweep.pid} on"):
            claimed(folder, "m").__enter__()
        sweep.kill()
    monkeypatch.setattr(claim, "_ENDING_S", 0.3)
    try:
        began = time.monotonic()
        with pytest.raises(OutputError, match=f"process {sweep.pid} on .*since 2"):
            claimed(folder, "m").__enter__()
        assert time.monotonic() - began > 0.3
        monkeypatch.setattr(claim, "_ENDING_S", 30.0)
        subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {trial}"]).wait()
        with claimed(folder, "m"):
            pass
    finally:
        subprocess.run(["kill", "-9", str(trial)], stderr=subprocess.DEVNULL)


def test_processes_1_of_two_containers_are_told_apart(tmp_path: Path) -> None:
    folder, container = tmp_path / "sw", _namespace()
    command = [*container, sys.executable, "-c", SWEEP, str(folder)]
    claiming = "import sys\nfrom pathlib import Path\nfrom qdeploy.sweep.claim import claimed\n"
    claiming += "with claimed(Path(sys.argv[1]), 'm'):\n    print('went on')\n"
    second = [*container, sys.executable, "-c", claiming, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as sweep:
        assert sweep.stdout is not None
        sweep.stdout.readline()
        refused = subprocess.run(second, cwd=ROOT, capture_output=True, text=True)
        assert "Another sweep works in" in refused.stderr and "process 1 on" in refused.stderr
        sweep.kill()  # all of the container goes with its process 1
    done = subprocess.run(second, cwd=ROOT, capture_output=True, text=True)
    deadline = time.monotonic() + 10
    while done.returncode and time.monotonic() < deadline:  # --kill-child works a moment later
        done = subprocess.run(second, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "went on\n", done.stderr


def test_a_lock_without_a_text_is_no_dead_end(tmp_path: Path) -> None:
    folder = tmp_path / "sw"
    folder.mkdir()
    (folder / LOCK).touch()
    with claimed(folder, "m"):
        holder = holder_of(folder / LOCK)
        assert holder is not None and holder.pid == os.getpid() and holder.is_here()
    lease = take(folder / LOCK)
    assert lease is not None
    lease.release()
