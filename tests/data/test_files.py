"""Text of files block by block, and what is said of those that cannot be read."""

from __future__ import annotations

import csv
import io
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.data import files, read_rows, sample_rows
from qdeploy.data.files import DataFile
from qdeploy.data.sources import open_source
from qdeploy.errors import DataError

ROWS = "question\tsentence\tlabel\n" + "".join(f"q{at}\ts{at}\t{at % 2}\n" for at in range(50))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.tsv"
    path.write_text(ROWS)
    return path


LETTERS = "é漢🙂\u2028\x85\x0c\ufeff".encode()
PIECES = st.sampled_from([b"a", b"\n", b"\r", b"\r\n", LETTERS, b"\xff", b"\xe6\xbc", b"\0"])


@given(pieces=st.lists(PIECES, max_size=30), block=st.integers(1, 9))
def test_blocks_change_nothing(
    pieces: list[bytes], block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Lines and the place of a bad byte are those of the text read whole."""
    raw = b"".join(pieces)
    path = tmp_path_factory.getbasetemp() / "x.txt"
    path.write_bytes(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "BLOCK", block)
        file = DataFile(path)
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            at = error.start + len(raw) - len(error.object)
            line = raw.count(b"\n", 0, at) + 1
            for ends in ("\n", ""):
                with pytest.raises(DataError, match=f"line {line}: byte 0x{raw[at]:02x} is not U"):
                    list(file.lines(ends))
        else:
            for ends in ("\n", ""):
                assert list(file.lines(ends)) == list(io.StringIO(text, newline=ends))


def test_lines_before_a_bad_byte_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    path.write_bytes(ROWS.encode() + b"q\t\xff\t1\n")
    assert len(read_rows(path, limit=50)) == 50
    with pytest.raises(DataError, match=r"line 52: byte 0xff is not UTF-8"):
        read_rows(path, limit=51)


def test_lines_without_an_end_in_sight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LONGEST", 1000)
    monkeypatch.setattr(files, "BLOCK", 100)
    for name in ("x.tsv", "x.jsonl", "x.csv"):
        path = tmp_path / name
        path.write_bytes(b'{"a":1}\n' + b"\0" * 10_000)
        with pytest.raises(DataError, match=rf"{name}, line 2: longer than 1000 characters"):
            list(open_source(path, "evaluation").read(()))


def test_long_fields_of_csv_are_read(tmp_path: Path) -> None:
    """The csv module's own limit is 131,072 characters."""
    path = tmp_path / "x.csv"
    text = "the river, " * 200_000
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["question", "sentence", "label"], ["who", text, "1"]])
    assert read_rows(path).second == (text,)


# What is no readable file


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def loop(path: Path) -> None:
    path.symlink_to("other.tsv")
    path.with_name("other.tsv").symlink_to(path.name)


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (pipe, "is a pipe, and rows are read from regular files"),
        (bound, "is a socket"),
        (loop, "is a link that leads back to itself"),
        (lambda path: path.symlink_to("gone.tsv"), r"is a link to gone\.tsv, which does not exist"),
        (lambda path: path.symlink_to("/dev/null"), "is a device"),
        (lambda path: path.mkdir(), r"has no dev\.tsv, .* it holds nothing"),
    ],
)
def test_what_is_no_regular_file(
    tmp_path: Path, suffix: str, make: Callable[[Path], Any], message: str
) -> None:
    path = tmp_path / f"x{suffix}"
    make(path)
    with pytest.raises(DataError, match=message):
        read_rows(path)


def test_a_glue_directory_whose_file_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dev.tsv")
    (tmp_path / "train.tsv").symlink_to("gone")
    with pytest.raises(DataError, match=r"dev\.tsv is a pipe"):
        read_rows(tmp_path)
    with pytest.raises(DataError, match=r"train\.tsv is a link to gone"):
        sample_rows(tmp_path, 8, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 252 + ".tsv", r"\(256 bytes\) is no name that the file system takes"),
        ("é" * 126 + ".tsv", r"\(256 bytes\) is no name"),
        ("a/" * 3000 + "x.tsv", r"\(6005 bytes\) is no name"),
        ("x\0.tsv", "is no file name"),
        ("~nobody-at-all/x.tsv", "does not exist"),
        ("rows.tsv/x.tsv", "does not exist"),
    ],
)
def test_names_that_lead_nowhere(
    rows: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(rows.parent)
    with pytest.raises(DataError, match=message):
        read_rows(name)


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(DataError, match=r"x\.tsv does not exist"):
        read_rows("x.tsv")


_AS_NOBODY = """
import os, sys
from qdeploy.data import read_rows, sample_rows
b"".decode("utf-8-sig")
os.setgid(65534), os.setuid(65534)
for path in sys.argv[1:]:
    for read in (read_rows, lambda source: sample_rows(source, 8, 0)):
        try:
            read(path)
        except Exception as error:
            print(type(error).__name__, error)
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become nobody")
def test_files_that_are_not_for_us() -> None:
    with tempfile.TemporaryDirectory() as folder:
        closed = Path(folder) / "closed"
        closed.mkdir()
        paths = [Path(folder) / "x.tsv", closed, closed / "dev.tsv", closed / "none.tsv"]
        for path in (paths[0], paths[2]):
            path.write_text(ROWS)
            path.chmod(0o600)
        closed.chmod(0o700)
        Path(folder).chmod(0o755)
        done = subprocess.run(
            [sys.executable, "-c", _AS_NOBODY, *map(str, paths)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(paths), done.stdout
    for line in lines:
        assert line.startswith("DataError /") and "cannot be read: permission denied" in line


# Files that change


def test_a_file_that_changes_between_the_passes(rows: Path) -> None:
    table = open_source(rows, "evaluation")
    assert len(list(table.read(()))) == 50
    rows.write_text(ROWS + "q\ts\t1\n")
    with pytest.raises(DataError, match=r"rows\.tsv changed while it was read\. Run it again"):
        list(table.read(()))
    with pytest.raises(DataError, match="changed while it was read"):
        table.check()


@pytest.mark.parametrize("during", ["first pass", "second pass"])
def test_a_file_that_grows_while_it_is_sampled(
    rows: Path, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    monkeypatch.setattr(files, "BLOCK", 64)
    own, reads = DataFile._read, [0]

    def read(self: DataFile, stream: Any) -> bytes:
        reads[0] += 1
        if reads[0] == (5 if during == "first pass" else 18):
            with rows.open("a") as more:
                more.write("q\ts\t1\n")
        return own(self, stream)

    monkeypatch.setattr(DataFile, "_read", read)
    with pytest.raises(DataError, match="changed while it was read"):
        sample_rows(rows, 4, 0)
