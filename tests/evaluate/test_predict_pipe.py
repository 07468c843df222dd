"""`qdeploy predict` with real pipes: answers come as rows do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qdeploy.data.files import Stream
from qdeploy.data.incoming import Incoming
from qdeploy.data.readers import read_jsonl
from qdeploy.errors import DataError
from tests.evaluate.bag import engine_directory
from tests.evaluate.row_files import TEXTS, rows_file


def test_rows_are_given_as_they_come() -> None:
    """Of a pipe whose writer waits, what was written is given at once, in blocks."""
    read, write = os.pipe()
    table = read_jsonl(Stream(os.fdopen(read, "rb", buffering=0), "pipe"))
    incoming = Incoming(table, waits=True, expected=0)
    blocks = incoming.blocks(incoming.rows(None, None), 4)
    for count in (1, 3, 9):
        os.write(write, b'{"text": "yes"}\n' * count)
        got = 0
        while got < count:  # more would wait for ever
            block = next(blocks)
            assert len(block) <= 4
            got += len(block)
    os.write(write, b'{"text": "yes"}\n{"text": \n')
    os.close(write)
    last = next(blocks)
    assert last[0].place == "line 14"
    with pytest.raises(DataError, match="pipe, line 15: not JSON"):
        next(blocks)


# The command, with real pipes


def command(engine: Path, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "qdeploy", "predict", str(engine), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


@pytest.fixture
def onnx_engine(tmp_path: Path) -> Path:
    return engine_directory(tmp_path / "engine")


def test_answers_appear_while_rows_come(onnx_engine: Path) -> None:
    with command(onnx_engine, "--format", "text") as running:
        assert running.stdin and running.stdout and running.stderr
        for text, label in (("yes w1", "entailment"), ("no", "not_entailment")):
            running.stdin.write(f"{text}\n")
            running.stdin.flush()
            assert json.loads(running.stdout.readline())["label"] == label
        out, err = running.communicate()
    assert (out, running.returncode) == ("", 0)
    assert "2 rows answered" in err and "Warning" not in err


def test_a_reader_that_leaves_ends_it_quietly(onnx_engine: Path, tmp_path: Path) -> None:
    path = rows_file(tmp_path / "rows.csv", TEXTS * 40)
    with command(onnx_engine, str(path)) as running:
        assert running.stdout and running.stderr
        assert json.loads(running.stdout.readline())
        running.stdout.close()
        assert running.stderr.read().endswith("text = text; not read: id\npredict\n")
        assert running.wait() == 0


def test_a_bad_line_of_a_pipe(onnx_engine: Path) -> None:
    with command(onnx_engine) as running:
        out, err = running.communicate('{"text": "yes"}\n{"text": \n')
    assert running.returncode == 2 and len(out.splitlines()) == 1
    assert "Error: standard input, line 2: not JSON" in err
    assert "Rows before it that were answered: 1." in err and "Traceback" not in err


def test_a_csv_from_a_pipe(onnx_engine: Path) -> None:
    with command(onnx_engine, "-", "--format", "csv", "--keep", "id") as running:
        out, err = running.communicate("id,text\n7,yes\n8,no\n")
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["7", "8"], err
