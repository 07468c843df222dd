"""Lines of a file or of standard input as rows of texts: a part of `predict_template.py`.

`predict_script` puts what stands in the section into each engine's `predict.py`, so that it imports
nothing but what the template imports.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

# <lines>
BLOCK_ROWS = 256  # read, answered and written at a time


class WrongInput(Exception):
    """A line that cannot be read."""


def lines_of(file: str) -> Iterator[bytes]:
    """Lines of a file, or of standard input; they end at LF alone."""
    if file == "-":
        yield from sys.stdin.buffer
        return
    with Path(file).open("rb") as stream:
        yield from stream


def read(lines: Iterator[bytes], jsonl: bool, pairs: bool) -> Iterator[tuple[str, ...]]:
    """The texts of each line that is not blank."""
    wanted = '{"text": "...", "text_pair": "..."}' if jsonl else "two texts with a tab between"
    for number, raw in enumerate(lines, 1):
        raw = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw  # a byte-order mark
        try:
            line = raw.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            byte = f"byte 0x{raw[error.start]:02x}"
            raise WrongInput(
                f"line {number}: {byte} is not UTF-8. Save the file as UTF-8."
            ) from None
        if not line.strip():
            continue
        row = texts_of(line, jsonl, pairs)
        if row is None:
            raise WrongInput(f"line {number}: {wanted} was expected.")
        yield row


def texts_of(line: str, jsonl: bool, pairs: bool) -> tuple[str, ...] | None:
    """The texts of a line; None where it is not of the form that was asked for."""
    if not jsonl:
        row = tuple(line.split("\t")) if pairs else (line,)
        return row if len(row) == 1 + pairs else None
    try:
        found = json.loads(line)
        second = found.get("text_pair")
        row = (found["text"],) if second is None else (found["text"], second)
        "".join(row).encode()  # texts, and no half of a character
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    return row


def blocks(rows: Iterator[tuple[str, ...]], source: str) -> Iterator[list[tuple[str, ...]]]:
    """Rows by the block; those in front of a line that cannot be read are answered too."""
    fault: WrongInput | None = None
    while fault is None:
        block: list[tuple[str, ...]] = []
        try:
            while len(block) < BLOCK_ROWS and (row := next(rows, None)) is not None:
                block.append(row)
        except WrongInput as error:
            fault = error
        if block:
            yield block
        elif fault is None:
            return
    print(f"Error: {source}, {fault}", file=sys.stderr)
    sys.exit(2)


# </lines>
