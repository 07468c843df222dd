"""Lines of text: an engine's `predict.py` and `qdeploy predict` take them for the same rows."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from qdeploy.data.incoming import open_incoming
from qdeploy.deploy import predict_lines, predict_template
from qdeploy.deploy.predict_script import predict_script
from qdeploy.errors import DataError
from qdeploy.files.artifact import read_manifest
from tests.evaluate.bag import engine_directory

INPUTS = {
    "lines": b"the river\na king\n",
    "no end": b"the river\na king",
    "CR LF": b"the river\r\na king\r\n",
    "two CR": b"the river\r\r\na king\n",
    "a lone CR": b"the river\ra king\nwater\r",
    "blank lines": b"\nthe river\n\n \t\n\r\na king\n\n",
    "blank in Unicode": "\u00a0\u2003\nthe river\n".encode(),
    "other line ends": "the\u2028river\x0b a\x85king\x0c\n".encode(),
    "a BOM": b"\xef\xbb\xbfthe river\na king\n",
    "a BOM alone": b"\xef\xbb\xbf",
    "a BOM in the second line": b"the river\n\xef\xbb\xbfa king\n",
    "spaces": b"  the river \t\n",
    "NUL": b"the\0river\n",
    "nothing": b"",
    "bad UTF-8": b"the river\n\na \xff king\nwater\n",
    "bad UTF-8 at once": b"\xfe\xff\0a\n",
    "cut UTF-8": b"the river\n\xe2\x82",
    "cut UTF-8 in a line": b"the river\n\xe2\x82\nwater\n",
}


def rows_of_qdeploy(source: str) -> tuple[list[tuple[str, ...]], str | None]:
    """The rows, and the error behind them."""
    rows = []
    try:
        for row in open_incoming(source, "text").rows(None, None):
            assert row.fault is None
            rows.append(row.texts)
    except DataError as error:
        return rows, str(error).removeprefix(f"{source}, ").removeprefix("standard input, ")
    return rows, None


def rows_of_script(source: str) -> tuple[list[tuple[str, ...]], str | None]:
    rows = []
    try:
        for row in predict_lines.read(predict_lines.lines_of(source), False, False):
            rows.append(row)
    except predict_lines.WrongInput as error:
        return rows, str(error)
    return rows, None


@pytest.mark.parametrize("given", INPUTS.values(), ids=INPUTS)
def test_both_read_the_same(given: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(given)
    expected = rows_of_qdeploy(str(path))
    assert rows_of_script(str(path)) == expected
    for rows_of in (rows_of_qdeploy, rows_of_script):  # standard input is no different
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        assert rows_of("-") == expected
    assert (b"\xff" in given or b"\x82" in given) == (expected[1] is not None)


def test_the_script_answers_what_stands_before_a_bad_line_and_names_it(tmp_path: Path) -> None:
    """In a process: single texts to an engine of pairs, and a line that is no UTF-8."""
    data = {"source": "x.csv", "task": "qnli", "columns": None, "max_length": None}
    engine = engine_directory(tmp_path / "e", data=data)
    script = predict_script(engine, read_manifest(engine, "engine"))
    assert script is not None
    (engine / "predict.py").write_text(script, "utf-8")
    given = INPUTS["bad UTF-8"]
    for words, first in ((["-"], "standard input"), ([str(tmp_path / "x.txt")], "x.txt")):
        (tmp_path / "x.txt").write_bytes(given)
        command = [sys.executable, "-I", str(engine / "predict.py"), "--file", *words]
        done = subprocess.run(command, input=given, capture_output=True)
        said = done.stderr.decode()
        assert done.returncode == 2 and len(done.stdout.splitlines()) == 1
        assert f"{first}, line 3: byte 0xff is not UTF-8" in said and "Traceback" not in said
        assert said.count("Warning: Single texts are answered, and this engine is for pairs") == 1


@pytest.mark.parametrize("words", [["FILE"], ["a king", "FILE"], ["--pairs", "a king", "FILE"]])
def test_the_script_takes_no_file_for_a_text(words: list[str], tmp_path: Path) -> None:
    engine = engine_directory(tmp_path / "e")
    script = predict_script(engine, read_manifest(engine, "engine"))
    assert script is not None
    (engine / "predict.py").write_text(script, "utf-8")
    (tmp_path / "three.jsonl").write_text('{"text": "the river"}\n')
    (tmp_path / "folder").mkdir()

    def run(name: str) -> subprocess.CompletedProcess[str]:
        given = [name if word == "FILE" else word for word in words]
        command = [sys.executable, "-I", str(engine / "predict.py"), *given]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    done = run("three.jsonl")
    assert done.returncode == 2 and done.stdout == ""
    assert "three.jsonl is a file: pass it with --file" in done.stderr
    # what merely looks like one is a text, and so is one that no file could be called
    for name in ("four.jsonl", "folder", "the river " * 100):
        done = run(name)
        assert done.returncode == 0 and done.stdout, done.stderr


@pytest.mark.parametrize("name", ["rows.csv", "rows.TSV", "rows.parquet"])
def test_the_script_takes_no_table_for_lines(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_text("id,text\n1,a\n")
    monkeypatch.setattr(sys, "argv", ["predict.py", "--file", str(tmp_path / name)])
    for stream in ("stdin", "stdout"):
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(SystemExit) as ended:
        predict_template.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2 and f"{name} is a table: use `qdeploy predict`, or" in said
