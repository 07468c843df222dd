"""Files of rows: what each format keeps, and what each says when a row is wrong."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.data.readers import READERS, Record, Table
from qdeploy.data.sources import open_source
from qdeploy.errors import DataError

HEADER = "index\tquestion\tsentence\tlabel\n"


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read_table(path: Path) -> Table:
    return open_source(path, "evaluation")


def records(path: Path) -> list[Record]:
    return list(read_table(path).read(("question", "label")))


def fields(path: Path) -> list[list[object]]:
    return [list(values.values()) for _, values in records(path)]


def test_tsv_takes_quotation_marks_as_characters(tmp_path: Path) -> None:
    text = HEADER + '0\tWho said "no?\tHe "did\tentailment\n1\t"a"\tb\tnot_entailment\n'
    assert fields(write(tmp_path / "x.tsv", text)) == [
        ["0", 'Who said "no?', 'He "did', "entailment"],
        ["1", '"a"', "b", "not_entailment"],
    ]


def test_tsv_splits_at_lf_alone(tmp_path: Path) -> None:
    """U+2028, U+0085, form feed and a lone CR stand inside texts of Wikipedia."""
    text = HEADER + "0\ta\u2028b\x85c\td\x0ce\rf\tentailment\r\n"
    assert fields(write(tmp_path / "x.tsv", text)) == [
        ["0", "a\u2028b\x85c", "d\x0ce\rf", "entailment"]
    ]


def test_tsv_without_final_line_end_and_with_a_byte_order_mark(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "x.tsv", "\ufeffquestion\tlabel\na\tb"))
    assert table.columns == ("question", "label")
    assert list(table.read(())) == [("line 2", {"question": "a", "label": "b"})]


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\t\n"), min_size=1).filter(
    lambda cell: not cell.endswith("\r")
)


@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=8))
def test_tsv_round_trip(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "x.tsv"
    write(path, "a\tb\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    assert fields(path) == [list(row) for row in rows]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8))
def test_csv_round_trip(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "x.csv"
    stream = io.StringIO(newline="")
    csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    write(path, stream.getvalue())
    assert fields(path) == [list(row) for row in rows]


@given(rows=st.lists(st.tuples(TEXT, st.integers()), min_size=1, max_size=8))
def test_jsonl_round_trip(
    rows: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "x.jsonl"
    write(path, "\n".join(json.dumps({"a": a, "b": b}, ensure_ascii=False) for a, b in rows))
    assert fields(path) == [list(row) for row in rows]


def test_jsonl_has_the_columns_that_occur(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", '{"a": 1}\n\n{"b": 2}\n')
    assert read_table(path).columns is None  # what the last line may tell
    assert records(path) == [("line 1", {"a": 1}), ("line 3", {"b": 2})]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.tsv", HEADER + "0\ta\tb\tentailment\n1\ta\tb\n", r"x\.tsv, line 3: 3 fields.* has 4"),
        ("x.tsv", "", r"x\.tsv is empty: no header line"),
        ("x.tsv", "a\ta\n1\t2\n", r"names a column twice: a, a"),
        ("x.tsv", b"question\tlabel\nok\t1\ncaf\xe9\t0\n", r"line 3: byte 0xe9 is not UTF-8"),
        ("x.tsv", b"\xef\xbb\xbfa\n\xff\n", r"line 2: byte 0xff is not UTF-8"),
        ("x.csv", "a,b\n1,2\n1,2,3\n", r"x\.csv, line 3: 3 fields, and the header has 2"),
        ("x.csv", 'a,b\n"1"x,2\n', r"x\.csv, line 2: .*double the quotation marks"),
        ("x.csv", 'a,b\n"1,2\n', r"x\.csv, line 2: unexpected end of data"),
        ("x.jsonl", '{"a": 1}\n{"a": \n', r"x\.jsonl, line 2: not JSON"),
        ("x.jsonl", "[1, 2]\n", r"line 1: a JSON list, and an object was expected"),
        ("x.jsonl", '{"a": 1}\n{"a": ' + "[" * 99999, r"line 2: lists or objects .* hundreds deep"),
        ("x.jsonl", '{"a": ' + "9" * 5000 + "}", r"line 1: a number of thousands of digits"),
        ("x.csv", 'a,b\n"1,2\n3,4\n', r"x\.csv, line 3: unexpected end of data"),
        ("x.tsv", "a\tb\n1\t2\n".encode("utf-16"), r"line 1: byte 0xff is not UTF-8"),
        ("x.tsv", "a\tb\n1\t2\n".encode("utf-16-le"), r"NUL bytes, as files in UTF-16 do"),
        ("x.txt", "a\n", r"suffix '\.txt', and rows are read from \.tsv, \.csv, \.jsonl, \.parq"),
    ],
)
def test_errors_name_file_line_and_remedy(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        records(write(tmp_path / name, content))


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"needs pyarrow.*pip install pyarrow"):
        read_table(write(tmp_path / "x.parquet", b"PAR1"))


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"question": ["a", "b"], "label": [0, 1]}), path)
    table = read_table(path)
    assert table.columns == ("question", "label")
    assert list(table.read(("question", "label")))[1] == ("row 2", {"question": "b", "label": 1})
    assert next(table.read(("label", "x"))) == ("row 1", {"label": 0})
    with pytest.raises(DataError, match="is not a Parquet file"):
        read_table(write(tmp_path / "y.parquet", b"not parquet at all"))


def test_every_format_has_a_reader() -> None:
    assert set(READERS) == {".tsv", ".csv", ".jsonl", ".parquet"}


@pytest.mark.parametrize(
    ("name", "header", "mark", "way"),
    [
        ("x.csv", "text;label", "';'", "Write it with commas"),
        ("x.csv", "text\tlabel", "tabs", "or give it the suffix .tsv"),
        ("x.csv", "text|label", r"'\|'", "Write it with commas"),
        ("x.tsv", "text,label", "commas", "or give it the suffix .csv"),
        ("x.tsv", "text;label", "';'", "Write it with tabs"),
    ],
)
def test_another_separator_is_asked_about(
    name: str, header: str, mark: str, way: str, tmp_path: Path
) -> None:
    path = write(tmp_path / name, f"{header}\na film, good;1\n")
    with pytest.raises(
        DataError, match=rf"has one column, .*: is this separated by {mark}\?.*{way}"
    ):
        read_table(path)


@pytest.mark.parametrize("header", ["text", "text,a;b", "a|b,label", "text,"])
def test_a_header_that_has_fields_is_taken(header: str, tmp_path: Path) -> None:
    columns = tuple(header.split(","))
    assert read_table(write(tmp_path / "x.csv", f"{header}\n")).columns == columns
