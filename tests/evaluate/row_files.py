"""Files of rows for `predict`, and the answers that it wrote."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

bag = pytest.mark.usefixtures("numpy_engines")
TEXTS = [f"{'yes' if at % 3 else 'no'} w{at % 26}" + " w2" * (at % 11) for at in range(150)]


def rows_file(path: Path, texts: list[str] = TEXTS, **columns: Any) -> Path:
    """The texts under a suffix's own format, with an `id` and further columns."""
    records = [{"id": at, "text": text, **columns} for at, text in enumerate(texts)]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    elif path.suffix == ".parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(arrow.Table.from_pylist(records), path)
    elif path.suffix == ".txt":
        path.write_text("\n".join(texts) + "\n\n")
    else:
        stream = io.StringIO()
        writer = csv.DictWriter(
            stream, list(records[0]), delimiter="\t" if path.suffix == ".tsv" else ","
        )
        writer.writeheader()
        writer.writerows(records)
        path.write_text(stream.getvalue())
    return path


def answers(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]
