"""Damaged data files: read as a plain reader reads them, or refused by name; nothing else."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qdeploy.data import Rows, read_rows, sample_rows
from qdeploy.data.files import LONGEST
from qdeploy.errors import DataError

HEADER = ("question", "sentence", "label")
FILES = 150  # of each format
Texts = list[tuple[str, str]]


def made(rng: random.Random, count: int = 12) -> list[tuple[str, str, str]]:
    words = ["who", "the river", 'said "no', "a, b", "漢字", "naïve", "x\u2028y", "🙂"]
    return [
        (" ".join(rng.choices(words, k=3)), rng.choice(words), rng.choice(("entailment", "1")))
        for _ in range(count)
    ]


# Whole files


def tsv(rows: list[tuple[str, str, str]]) -> bytes:
    return "".join("\t".join(row) + "\n" for row in [HEADER, *rows]).encode()


def comma(rows: list[tuple[str, str, str]]) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([HEADER, *rows])
    return stream.getvalue().encode()


def jsonl(rows: list[tuple[str, str, str]]) -> bytes:
    return "".join(json.dumps(dict(zip(HEADER, row, strict=True))) + "\n" for row in rows).encode()


def parquet(rows: list[tuple[str, str, str]]) -> bytes:
    import pyarrow
    from pyarrow import parquet as writer

    stream = io.BytesIO()
    columns = {name: list(values) for name, *values in zip(HEADER, *rows, strict=True)}
    writer.write_table(pyarrow.table(columns), stream)
    return stream.getvalue()


MAKERS = {".tsv": tsv, ".csv": comma, ".jsonl": jsonl, ".parquet": parquet}

# What a file goes through


def flipped(rng: random.Random, raw: bytes) -> bytes:
    changed = bytearray(raw)
    for _ in range(rng.randrange(1, 6)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def inserted(*pieces: bytes) -> Callable[[random.Random, bytes], bytes]:
    def change(rng: random.Random, raw: bytes) -> bytes:
        at = rng.randrange(len(raw) + 1)
        return raw[:at] + rng.choice(pieces) + raw[at:]

    return change


def replaced(old: bytes, *new: bytes) -> Callable[[random.Random, bytes], bytes]:
    def change(rng: random.Random, raw: bytes) -> bytes:
        parts = raw.split(old)
        return parts[0] + b"".join(rng.choice((old, *new)) + part for part in parts[1:])

    return change


def in_utf16(rng: random.Random, raw: bytes) -> bytes:
    return raw.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-16-le", "utf-16-be")))


MUTATIONS: list[Callable[[random.Random, bytes], bytes]] = [
    lambda rng, raw: raw,
    lambda rng, raw: raw[: rng.randrange(len(raw) + 1)],
    lambda rng, raw: raw[: raw.find(b"\n") + 1],
    lambda rng, raw: b"\xef\xbb\xbf" + raw,
    lambda rng, raw: raw + raw,
    lambda rng, raw: bytes(rng.choices(range(256), k=200)),
    flipped,
    in_utf16,
    inserted(b'"', b'""', b'"x', b"'"),
    inserted(b"\0", b"\0" * 1000, b"\xff", b"\xe6\xbc", b"\r", b"\n", b"\n\n", b"\t", b",", b" "),
    inserted(b"x" * 200_000, b'"' + b"y, " * 70_000 + b'"', b"\xe6\xbc\xa2" * 100_000),
    lambda rng, raw: raw + b'{"question": ' + b"[" * 100_000,
    lambda rng, raw: raw + b'{"question": ' + b"9" * 5000 + b"}\n",
    inserted(b"\\ud800", b'"\\ud83d"', b'{"a": NaN}\n', b'{"sentence": null, "label": {}}\n'),
    replaced(b"\n", b"\r\n", b"\r"),
    replaced(b"question", b"sentence", b"label", b"frage"),
    replaced(b"label", b"", b"label\0", b"\xc3\xa9" * 40_000),
    replaced(b"1", b"9" * 5000, b"-1", b"", b"null", b"LABEL_" + b"1" * 5000),
    replaced(b'"1"', b"9" * 4000, b"[" * 900 + b"]" * 900, b"1e999", b"true", b'"\\udfff"'),
]


# What they hold, read at once and plainly; None of a file that is not whole


def reference(path: Path) -> Texts | None:
    try:
        if path.suffix == ".parquet":
            from pyarrow import parquet

            records = parquet.read_table(path).to_pylist()
        else:
            records = _records(path.suffix, path.read_bytes().decode("utf-8-sig"))
    except Exception:  # whatever a plain reader says
        return None
    rows: Texts = []
    for record in records:
        texts = [record.get(name) for name in HEADER[:2]]
        if not all(isinstance(text, str) and text.strip() and is_utf8(text) for text in texts):
            return None
        rows.append((texts[0], texts[1]))
    return rows or None


def is_utf8(text: str) -> bool:
    return text == text.encode("utf-8", "ignore").decode()


def _records(suffix: str, text: str) -> list[dict[str, Any]]:
    if suffix == ".jsonl":
        found = [json.loads(line) for line in text.split("\n") if line.strip()]
        for record in found:
            # nested in a class name, or half a letter: nothing to write down
            if not is_utf8(str(record.get("label"))):
                raise ValueError("label")
        return found
    if suffix == ".tsv":
        lines = [line.removesuffix("\r") for line in text.split("\n")]
        fields = [line.split("\t") for line in lines if line]
    else:
        csv.field_size_limit(LONGEST)
        fields = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    columns = [name.strip() for name in fields[0]]
    if len(set(columns)) < len(columns) or "\0" in "".join(columns):
        raise ValueError("header")
    return [dict(zip(columns, row, strict=True)) for row in fields[1:]]


def texts_of(rows: Rows) -> Texts:
    assert rows.second is not None
    return list(zip(rows.first, rows.second, strict=True))


@pytest.mark.parametrize("suffix", MAKERS)
def test_damaged_files_are_read_plainly_or_refused_by_name(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    rng = random.Random(suffix)
    path = tmp_path / f"rows{suffix}"
    read = refused = 0
    for at in range(FILES):
        raw = MAKERS[suffix](made(rng))
        for change in [MUTATIONS[at % len(MUTATIONS)], *rng.sample(MUTATIONS, rng.randrange(2))]:
            raw = change(rng, raw) if raw else raw
        path.write_bytes(raw)
        expected = reference(path)
        try:
            rows = read_rows(path, split="calibration")
        except DataError as error:
            refused += 1
            assert str(path) in str(error) and len(str(error).encode()) < 6000
            assert expected is None or suffix == ".parquet", (at, error)
        else:
            read += 1
            assert texts_of(rows) == expected, at
            assert sample_rows(path, 5, at) == rows.sample(5, at)
            assert texts_of(read_rows(path, limit=1, split="calibration")) == expected[:1]
        for attempt in (lambda: read_rows(path, limit=3), lambda: sample_rows(path, 5, 0)):
            try:
                attempt()
            except DataError as error:
                assert str(path) in str(error)
    assert read > FILES / 10 and refused > FILES / 10
