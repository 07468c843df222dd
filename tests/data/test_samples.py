"""Samples and hashes: which rows a number and a seed take, whatever the source."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.data import (
    Rows,
    read_rows,
    row_hashes,
    rows_from_texts,
    sample_rows,
)
from qdeploy.errors import DataError
from tests.data.written import GLUE, write


def made(count: int) -> Rows:
    return rows_from_texts([(f"q{i}", f"s{i}") for i in range(count)])


@given(count=st.integers(1, 30), n=st.integers(1, 40), seed=st.integers(0, 5))
def test_sample_keeps_order_and_repeats_none(count: int, n: int, seed: int) -> None:
    rows = made(count).sample(n, seed)
    assert len(rows) == min(n, count)
    assert list(rows.row_ids) == sorted(set(rows.row_ids))
    assert rows == made(count).sample(n, seed)
    assert rows.first == tuple(f"q{i}" for i in rows.row_ids)


def test_sample_depends_on_the_seed_and_is_not_the_start() -> None:
    assert made(100).sample(10, 0).row_ids != made(100).sample(10, 1).row_ids
    assert made(100).sample(10, 0).row_ids != tuple(range(10))


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".parquet"])
def test_a_sample_of_a_file_is_that_of_its_rows(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    records = [{"question": f"q{i}", "sentence": f"s{i % 7}", "label": i % 2} for i in range(300)]
    if suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(records), path)
    elif suffix == ".jsonl":
        write(path, "\n".join(map(json.dumps, records)))
    else:
        comma = "\t" if suffix == ".tsv" else ","
        lines = [list(records[0]), *(list(map(str, record.values())) for record in records)]
        write(path, "\n".join(map(comma.join, lines)))
    rows = read_rows(path, split="calibration")
    assert len(rows) == 300
    for n, seed in ((1, 0), (7, 0), (7, 1), (299, 0), (300, 3), (500, 0)):
        assert sample_rows(path, n, seed) == rows.sample(n, seed)
    assert read_rows(path, limit=5) == rows.take(5) and read_rows(path, limit=500) == rows


@given(gone=st.sets(st.integers(0, 29)), n=st.integers(1, 40), seed=st.integers(0, 3))
def test_a_sample_without_some_rows(gone: set[int], n: int, seed: int) -> None:
    """The rows that did not calibrate, as `--strategy auto` takes them."""
    rows = read_rows("qnli-mini", split="calibration")
    hashes = row_hashes(rows)
    without = {hashes[at] for at in gone}
    left = rows.select([at for at, found in enumerate(hashes) if found not in without])
    found = sample_rows("qnli-mini", n, seed, without=without)
    assert found == (left.sample(n, seed) if len(left) else left)


def test_a_sample_without_all_rows_is_empty() -> None:
    rows = read_rows("qnli-mini", split="calibration")
    found = sample_rows("qnli-mini", 8, 0, without=row_hashes(rows))
    assert not len(found) and found.source == "qnli-mini"


def test_a_sample_judges_every_row_and_a_limit_its_own(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", GLUE + "0\tq\ts\t0\n" * 50 + "0\tq\t\t0\n1\tragged\n")
    with pytest.raises(DataError, match="line 52: column 'sentence' holds no text"):
        sample_rows(path, 2, 0)
    assert len(read_rows(path, limit=50)) == 50
    with pytest.raises(DataError, match="line 52"):
        read_rows(path, limit=51)
    with pytest.raises(DataError, match="0 rows were asked for"):
        read_rows(path, limit=0)
    with pytest.raises(DataError, match="-1 rows were asked for"):
        sample_rows(path, -1, 0)


def test_take() -> None:
    assert made(5).take(2).first == ("q0", "q1")
    assert made(5).take(9) == made(5)
    with pytest.raises(DataError, match="0 rows were asked for"):
        made(5).take(0)
    with pytest.raises(DataError, match="-1 rows were asked for"):
        made(5).sample(-1, 0)


def test_row_hashes_are_the_start_of_sha256() -> None:
    digest = hashlib.sha256(b"q0\x1fs0").hexdigest()
    assert row_hashes(made(2))[0] == digest[:16]
    assert row_hashes(rows_from_texts(["a"])) == [hashlib.sha256(b"a\x1f").hexdigest()[:16]]


def test_content_hash_knows_texts_and_order_but_not_labels(tmp_path: Path) -> None:
    rows = made(4)
    assert rows.content_hash() == made(4).content_hash()
    assert rows.content_hash() != rows.select([1, 0, 2, 3]).content_hash()
    assert rows.content_hash() != made(3).content_hash()
    labelled = write(tmp_path / "x.tsv", "question\tsentence\tlabel\nq0\ts0\t0\n")
    assert read_rows(labelled).content_hash() == made(1).content_hash()
