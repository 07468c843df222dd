"""Files of rows that tests write by hand."""

from __future__ import annotations

from pathlib import Path

GLUE = "index\tquestion\tsentence\tlabel\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path
