"""Rows whose text comes in words, each with a tag: CoNLL files, and lists in JSONL and Parquet.

A list becomes one value, its items with `BETWEEN` between them: of a text a space takes its place,
and a label is split there again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qdeploy.data.files import TextSource
from qdeploy.data.readers import Record, Table, text_source
from qdeploy.errors import DataError

BETWEEN = "\x1f"  # ASCII unit separator: stands in no word that somebody wrote
TOKENS, TAGS = "tokens", "ner_tags"  # columns of a CoNLL file, under the names of the hub
WORD_SUFFIXES = (".conll", ".iob", ".iob2", ".bio")
_DOCUMENT = "-DOCSTART-"
_NO_BREAK = "\u00a0"


def read_conll(source: Path | TextSource) -> Table:
    """A word a line with its tag in the last column, and a blank line between sentences; lists of
    both.

    Columns are separated by tabs, or by blanks where a line has no tab. Lines that begin a document
    (-DOCSTART-) and comments of CoNLL-U (`# …`) are passed over.

    Raises:
        DataError: of reading: a line without a tag.
    """
    file = text_source(source)

    def read(_: Collection[str]) -> Iterator[Record]:
        words: list[str] = []
        tags: list[str] = []
        start = 0
        for number, whole in enumerate(file.lines(), 1):
            line = whole.rstrip("\r\n")
            if not line.strip() or line.startswith(_DOCUMENT):
                if words:
                    yield f"line {start}", _sentence(words, tags)
                words, tags = [], []
                continue
            if line.startswith("# ") and not words:
                continue
            fields = line.split("\t") if "\t" in line else line.split()
            if len(fields) < 2 or not fields[0].strip() or not fields[-1].strip():
                raise DataError(
                    f"{file.path}, line {number}: a word and its tag were expected, with a tab or "
                    f"blanks between them, and the line is '{line[:60]}'. Mend it."
                )
            start = start if words else number
            words.append(fields[0])
            tags.append(fields[-1].strip())
        if words:
            yield f"line {start}", _sentence(words, tags)

    return Table(str(file.path), (TOKENS, TAGS), read, file.check)


def _sentence(words: list[str], tags: list[str]) -> Mapping[str, object]:
    return {TOKENS: words, TAGS: tags}


def joining(table: Table) -> Table:
    """The table with each list of words or numbers as one value."""

    def read(wanted: Collection[str]) -> Iterator[Record]:
        for place, values in table.read(wanted):
            if any(isinstance(value, list) for value in values.values()):
                values = {name: _value(value) for name, value in values.items()}
            yield place, values

    return replace(table, read=read)


def _value(value: object) -> object:
    """A list of texts or of whole numbers as one text; anything else, and an empty one, stays."""
    if not isinstance(value, list) or not value:
        return value
    if all(isinstance(item, str) for item in value):
        return joined(value)
    if all(_is_whole(item) for item in value):
        return joined([str(int(item)) for item in value])
    return value


def _is_whole(item: object) -> bool:
    """Whether it is a whole number; 1.0 and true are, as the 0 and 1 of each class are written."""
    return item.is_integer() if isinstance(item, float) else isinstance(item, int)


def joined(items: Sequence[str]) -> str:
    """Blanks inside a word do not break, so that the words can be told apart again."""
    return BETWEEN.join(_NO_BREAK.join(item.split()) or _NO_BREAK for item in items)


def words_as_text(value: object) -> object:
    """A list of words as one text with blanks between them; anything else as it is."""
    found = _value(value)
    return as_text(found) if isinstance(value, list) and isinstance(found, str) else value


def as_text(value: str) -> str:
    """A joined value as a text of words."""
    return value.replace(BETWEEN, " ")


def items_of(label: str) -> list[str]:
    """The items of a joined value, with plain blanks inside them; none of an empty one."""
    return label.replace(_NO_BREAK, " ").split(BETWEEN) if label else []
