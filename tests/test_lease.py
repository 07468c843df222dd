"""Leases tell the living from the dead, whatever process numbers say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from qdeploy.errors import OutputError
from qdeploy.files import lease, scratch
from qdeploy.files.lease import Holder, holder_of, leased_folder, leftovers, sweep, take

ROOT = Path(__file__).parent.parent
HOLDER = """
import sys, time
from pathlib import Path
from qdeploy.files.lease import leased_folder
with leased_folder(Path(sys.argv[1]), "out") as folder:
    (folder / "half").touch()
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def living(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a leased folder."""
    yield from _holder(tmp_path, [])


def _holder(folder: Path, prefix: list[str]) -> Iterator[subprocess.Popen[str]]:
    command = [*prefix, sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_lease_is_taken_once(tmp_path: Path) -> None:
    first = take(tmp_path / "x.lease", output="out")
    assert first is not None
    assert take(tmp_path / "x.lease") is None
    holder = holder_of(tmp_path / "x.lease")
    assert holder is not None
    assert (holder.pid, holder.output) == (os.getpid(), "out")
    assert f"process {os.getpid()} on " in str(holder)
    first.release()
    assert entries(tmp_path) == []
    again = take(tmp_path / "x.lease")
    assert again is not None
    again.release()


def test_a_folder_goes_with_its_block(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), leased_folder(tmp_path, "out") as folder:
        (folder / "half").touch()
        raise KeyboardInterrupt
    assert entries(tmp_path) == []


def test_what_a_living_process_holds_stays(tmp_path: Path, living: subprocess.Popen[str]) -> None:
    before = entries(tmp_path)
    sweep(tmp_path)
    assert entries(tmp_path) == before
    assert living.poll() is None


def test_what_a_killed_process_left_goes(tmp_path: Path, living: subprocess.Popen[str]) -> None:
    living.kill()
    living.wait()
    assert len(entries(tmp_path)) == 2
    sweep(tmp_path)
    assert entries(tmp_path) == []


def test_a_child_that_forked_away_does_not_hold_the_lease(tmp_path: Path) -> None:
    """A worker of a pool that outlives its parent must not make the leftover look alive."""
    script = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from qdeploy.files.lease import leased_folder\n"
        "with leased_folder(Path(sys.argv[1]), 'out'):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n        time.sleep(20)\n        os._exit(0)\n"
        "    print(child, flush=True)\n    os._exit(0)\n"
    )
    child = _output(script, tmp_path)
    deadline = time.monotonic() + 10
    try:
        while entries(tmp_path) and time.monotonic() < deadline:  # it lets go as it starts
            sweep(tmp_path)
        assert entries(tmp_path) == []
    finally:
        os.kill(int(child), 9)


def _output(script: str, folder: Path) -> str:
    """The first line of a script, whose child may keep the pipe open."""
    command = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        return process.stdout.readline()


def _namespace() -> list[str]:
    """Runs a command as process 1 of its own, as in a container."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    try:
        works = subprocess.run([*command, "true"], capture_output=True).returncode == 0
    except OSError:
        works = False
    if not works:
        pytest.skip("no process namespace can be made here")
    return command


def test_process_1_of_another_container_is_told_from_ones_own(tmp_path: Path) -> None:
    container = _namespace()
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom qdeploy.files.lease import sweep\n"
        "assert os.getpid() == 1\nsweep(Path(sys.argv[1]))"
    )
    sweeping = [*container, sys.executable, "-c", script, str(tmp_path)]
    for process in _holder(tmp_path, container):
        (note,) = tmp_path.glob("*.lease")
        holder = holder_of(note)
        assert holder is not None
        assert holder.pid == 1
        before = entries(tmp_path)
        subprocess.run(sweeping, cwd=ROOT, check=True)
        assert entries(tmp_path) == before  # process 1 lives, though it is another one
        process.kill()
    deadline = time.monotonic() + 10
    while entries(tmp_path) and time.monotonic() < deadline:  # --kill-child works a moment later
        subprocess.run(sweeping, cwd=ROOT, check=True)
    assert entries(tmp_path) == []


@pytest.mark.parametrize(("age", "left"), [(0.0, 0), (3600.0, 0), (25 * 3600.0, 1)])
def test_a_lease_of_another_machine_is_held_for_a_day(
    tmp_path: Path, age: float, left: int
) -> None:
    """Its lock may not be seen here."""
    path = tmp_path / ".out.0123456789ab.lease"
    path.write_text(json.dumps(asdict(Holder("far", "another boot", 1, time.time(), "out"))))
    os.utime(path, (time.time() - age,) * 2)
    found = list(leftovers(tmp_path))
    assert len(found) == left
    for one in found:
        one.release()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\x00"])
def test_a_lease_that_was_cut_has_no_folder(tmp_path: Path, text: str) -> None:
    """It names its owner before its folder is made: whatever stands there is somebody else's."""
    (tmp_path / ".out.0123456789ab.lease").write_text(text)
    (tmp_path / ".out.0123456789ab.partial").mkdir()
    sweep(tmp_path)
    assert entries(tmp_path) == [".out.0123456789ab.partial"]


def test_a_link_in_the_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "a").touch()
    gone = Holder("here", "", 1, 0.0)
    lease = tmp_path / ".out.0123456789ab.lease"
    lease.write_text(json.dumps(asdict(gone)))
    os.utime(lease, (0, 0))
    (tmp_path / ".out.0123456789ab.partial").symlink_to(precious)
    sweep(tmp_path)
    assert entries(precious) == ["a"]


def test_other_hidden_files_stay(tmp_path: Path) -> None:
    for name in (".bashrc", ".out.0123456789ab.partial", ".flat.lease", "notes.lease"):
        (tmp_path / name).touch()
    for name in (".flat.partial", ".flat.partial.old"):
        (tmp_path / name).mkdir()
    before = entries(tmp_path)
    sweep(tmp_path)
    assert entries(tmp_path) == before


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary directory of this test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_scratch_is_private_and_goes(temporary: Path) -> None:
    with scratch.scratch("test") as folder:
        assert folder.parent == temporary
        assert folder.stat().st_mode & 0o777 == 0o700
    assert entries(temporary) == []


def test_scratch_removes_what_a_killed_one_left(
    temporary: Path, living: subprocess.Popen[str]
) -> None:
    living.kill()
    living.wait()
    with scratch.scratch("test") as folder:
        assert entries(temporary) == sorted([folder.name, folder.stem + ".lease"])
    assert entries(temporary) == []


def test_a_temporary_directory_that_is_gone_is_said(temporary: Path) -> None:
    temporary.rmdir()
    refused = pytest.raises(OutputError, match="The temporary directory .* set TMPDIR")
    with refused, scratch.scratch("test"):
        pass


def test_a_boot_is_the_same_for_a_process_and_its_child() -> None:
    script = "from qdeploy.files import lease; print(lease._boot())"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == lease._boot()
