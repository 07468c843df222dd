"""Memory of reading and tokenizing: that of the rows that are wanted, however large the file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.data.test_tokenize import model_directory
from tests.tiny import tiny_tokenizer

MB = 1 << 20
# Reads as told, tokenizes, and prints the growth of its peak, bytes.
_CHILD = """
import sys
from qdeploy.data import read_rows, sample_rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.evaluate.memory import resident_peak

directory, how, path = sys.argv[1:]
encoder = TextEncoder.from_directory(directory)
encoder.encode(read_rows("qnli-mini", limit=16), 64)
if path.endswith(".parquet"):
    import pyarrow.parquet
before = resident_peak()
rows = {
    "limit": lambda: read_rows(path, limit=16),
    "sample": lambda: sample_rows(path, 16, 0),
    "without": lambda: sample_rows(path, 16, 0, without={"0" * 16}),
    "all": lambda: read_rows(path),
}[how]()
assert encoder.encode(rows, 64).lengths.max() <= 64
print(resident_peak() - before)
"""
ROW = ("what is the name of the river?", "the river is long and old and runs north " * 8, "1")
HEADER = ("question", "sentence", "label")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_directory(tmp_path_factory.mktemp("memory") / "model", tiny_tokenizer("bert"))


def lines(suffix: str, size: int) -> Iterator[str]:
    if suffix == ".jsonl":
        row = json.dumps(dict(zip(HEADER, ROW, strict=True))) + "\n"
    else:
        comma = "\t" if suffix == ".tsv" else ","
        yield comma.join(HEADER) + "\n"
        row = comma.join(ROW) + "\n"
    yield from (row for _ in range(size // len(row)))


def grown(directory: Path, how: str, path: Path) -> int:
    command = [sys.executable, "-c", _CHILD, str(directory), how, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize(
    ("how", "suffix"),
    [
        ("limit", ".tsv"),
        ("sample", ".tsv"),
        ("without", ".tsv"),
        ("sample", ".csv"),
        ("sample", ".jsonl"),
    ],
)
def test_a_large_file_takes_no_more(directory: Path, tmp_path: Path, how: str, suffix: str) -> None:
    """A file of 40 MB: read whole it took over 100."""
    path = tmp_path / f"rows{suffix}"
    with path.open("w") as stream:
        stream.writelines(lines(suffix, 40 * MB))
    assert path.stat().st_size > 39 * MB
    assert grown(directory, how, path) < 10 * MB


def test_of_parquet_the_columns_that_are_needed(directory: Path, tmp_path: Path) -> None:
    """A column of 200 MB that nobody asked for; 40 MB that are read."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    schema = pyarrow.schema([(name, pyarrow.string()) for name in (*HEADER, "unused")])
    with parquet.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for _ in range(100):
            columns = {name: [value] * 1000 for name, value in zip(HEADER, ROW, strict=True)}
            columns["unused"] = ["x" * 2000] * 1000
            writer.write_table(pyarrow.table(columns, schema=schema))
    assert path.stat().st_size > 200 * MB
    for how in ("limit", "sample"):
        assert grown(directory, how, path) < 50 * MB


@pytest.mark.parametrize("place", ["first", "second", "both"])
def test_one_long_row(directory: Path, tmp_path: Path, place: str) -> None:
    """10 MB of text: its tokens took 3.8 GB."""
    # of both, the one with more tokens gets the odd one: they are counted, which takes its time
    long = "the river is old " * ((2 if place == "both" else 10) * MB // 17)
    pair = (long if place != "second" else "who", long[17:] if place != "first" else "x")
    path = tmp_path / "rows.tsv"
    path.write_text("\n".join("\t".join(row) for row in (HEADER, (*pair, "1"), ROW)))
    assert grown(directory, "all", path) < 120 * MB
