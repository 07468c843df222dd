"""Parcels hold what was packed, and a node reads what was sent, whoever was there before."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

from qdeploy.files.artifact import MANIFEST, write_manifest
from qdeploy.files.lease import sweep
from qdeploy.sweep import parcel as parcels
from qdeploy.sweep.parcel import directory_files, pack, release, unpack, unpack_once, unpack_whole

ROOT = Path(__file__).parent.parent.parent
NAME = "0123456789abcdef"
FOLDER, LOCK = f".qdeploy-parcel-{NAME}.partial", f".qdeploy-parcel-{NAME}.lease"
# Another process of the same node that reads the parcel, until its input ends.
READER = """
import sys, tempfile
from pathlib import Path
from qdeploy.sweep.parcel import pack, unpack_once
tempfile.tempdir = sys.argv[1]
print(unpack_once(Path(sys.argv[2]).read_bytes(), sys.argv[3]), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory of this test's own."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    release(NAME)


@pytest.fixture
def parcel(tmp_path: Path) -> bytes:
    (tmp_path / "x.txt").write_text("right")
    return pack({"model/x.txt": tmp_path / "x.txt"})


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def names(parcel: bytes) -> list[str]:
    with tarfile.open(fileobj=BytesIO(parcel)) as tar:
        return tar.getnames()


def test_a_parcel_holds_what_was_packed(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")
    (tmp_path / "link").symlink_to("/etc/passwd")
    given = {"b/x.txt": tmp_path / "x.txt", "link": tmp_path / "link", "no": tmp_path / "no"}
    found = pack(given)
    assert names(found) == ["b/x.txt"]
    unpack(found, tmp_path / "out")
    assert (tmp_path / "out" / "b" / "x.txt").read_text() == "x"
    os.utime(tmp_path / "x.txt", (0, 0))
    assert pack(given) == found  # the same contents, the same bytes


def test_only_what_a_manifest_lists_travels(tmp_path: Path) -> None:
    engine = tmp_path / "engine"
    (engine / "sub").mkdir(parents=True)
    (engine / "model.onnx").write_text("graph")
    (engine / "sub" / "tokenizer.json").write_text("{}")
    write_manifest(engine, "engine", {})
    (engine / ".env").write_text("SECRET=1")
    (engine / "statistics").mkdir()
    (engine / "statistics" / "a.npz").touch()
    wanted = ["model.onnx", MANIFEST, "sub/tokenizer.json"]
    assert sorted(names(pack(directory_files(engine)))) == wanted
    assert sorted(names(pack(directory_files(engine, "e")))) == [f"e/{name}" for name in wanted]


def test_a_result_is_laid_down_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stood there is replaced, and a half of it never stands under the trial's name."""
    (tmp_path / "new.onnx").write_text("new")
    trial = tmp_path / "trials" / "trial"
    (trial / "engine").mkdir(parents=True)
    (trial / "engine" / "left.over").write_text("old")
    parcel = pack({"engine/model.onnx": tmp_path / "new.onnx"})

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("qdeploy.sweep.parcel.unpack", broken)
        with pytest.raises(KeyboardInterrupt):
            unpack_whole(parcel, trial)
    assert entries(trial / "engine") == ["left.over"]
    unpack_whole(parcel, trial)
    assert entries(trial / "engine") == ["model.onnx"]
    assert entries(trial) == ["engine"] and entries(trial.parent) == ["trial"]


def test_a_parcel_is_unpacked_once_and_goes_with_its_reader(home: Path, parcel: bytes) -> None:
    folder = unpack_once(parcel, NAME)
    assert unpack_once(parcel, NAME) == folder == home / FOLDER
    assert (folder / "model" / "x.txt").read_text() == "right"
    assert folder.stat().st_mode & 0o777 == 0o700
    sweep(home)
    assert folder.is_dir()  # it is read
    release(NAME)
    assert entries(home) == []


def _wrong_file(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "x.txt").write_text("wrong")


def _one_more(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "x.txt").write_text("right")
    (folder / "model" / "sitecustomize.py").write_text("evil")


def _link(folder: Path) -> None:
    folder.rmdir()
    target = folder.parent.parent / "elsewhere"
    (target / "model").mkdir(parents=True)
    (target / "model" / "x.txt").write_text("right")
    folder.symlink_to(target)


def _open_to_all(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "x.txt").write_text("right")
    folder.chmod(0o777)


def _empty(folder: Path) -> None:
    pass


@pytest.mark.parametrize("made", [_wrong_file, _one_more, _link, _open_to_all, _empty])
@pytest.mark.parametrize("locked", [True, False])
def test_a_folder_that_was_made_beforehand_is_not_trusted(
    made: Callable[[Path], None], locked: bool, home: Path, parcel: bytes
) -> None:
    (home / FOLDER).mkdir(mode=0o700)
    made(home / FOLDER)
    if locked:
        (home / LOCK).touch()
    folder = unpack_once(parcel, NAME)
    assert not folder.is_symlink() and folder.stat().st_mode & 0o077 == 0
    assert [p.name for p in folder.rglob("*")] == ["model", "x.txt"]
    assert (folder / "model" / "x.txt").read_text() == "right"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
@pytest.mark.parametrize("name", [FOLDER, LOCK])
def test_what_is_of_another_user_is_not_used(name: str, home: Path, parcel: bytes) -> None:
    if name == FOLDER:
        (home / name).mkdir(mode=0o700)
        _wrong_file(home / name)
    else:
        (home / name).touch(mode=0o666)
    os.chown(home / name, 65534, 65534)
    folder = unpack_once(parcel, NAME)
    assert folder != home / FOLDER and folder.parent == home
    assert (folder / "model" / "x.txt").read_text() == "right"
    release(NAME)
    assert entries(home) == [name]


def test_what_is_changed_while_it_is_held_is_made_anew(home: Path, parcel: bytes) -> None:
    folder = unpack_once(parcel, NAME)
    (folder / "model" / "x.txt").write_text("wrong")
    assert (unpack_once(parcel, NAME) / "model" / "x.txt").read_text() == "right"


def test_processes_of_a_node_share_it_and_the_last_takes_it_away(
    home: Path, parcel: bytes, tmp_path: Path
) -> None:
    (tmp_path / "parcel").write_bytes(parcel)
    command = [sys.executable, "-c", READER, str(home), str(tmp_path / "parcel"), NAME]
    readers = [
        subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline().strip() == str(home / FOLDER)
    readers[0].kill()
    readers[0].wait()
    readers[1].communicate()
    sweep(home)
    assert entries(home) == [LOCK, FOLDER]
    readers[2].kill()
    readers[2].wait()
    sweep(home)  # after a kill the next run of anything does this
    assert entries(home) == []
    for reader in (readers[0], readers[2]):
        assert reader.stdin is not None and reader.stdout is not None
        reader.stdin.close()
        reader.stdout.close()
    assert NAME not in parcels._held
