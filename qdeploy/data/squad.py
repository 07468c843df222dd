"""SQuAD's own files: articles of paragraphs, each a context with its questions (versions 1.1, 2.0).

The structure is that of https://rajpurkar.github.io/SQuAD-explorer/. A record is a question, with
the columns that the hub's data set has. Such a file is one value of JSON, which is read whole.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from qdeploy.data.files import LONGEST, TextSource
from qdeploy.data.gold_answers import START, TEXT
from qdeploy.data.readers import Record, Table, text_source
from qdeploy.data.tasks import ANSWERS
from qdeploy.errors import DataError

COLUMNS = ("id", "title", "context", "question", ANSWERS)
_FORM = "SQuAD's form (data → paragraphs → context and qas)"
_LINES = "Write other rows as JSON Lines, an object a line, into a .jsonl file."


def read_squad(source: Path | TextSource) -> Table:
    """A question a record, in the order of the file.

    Raises:
        DataError: of opening or reading: no JSON, or JSON of another form.
    """
    file = text_source(source)
    path = file.path

    def read(_: Collection[str]) -> Iterator[Record]:
        for article, one in enumerate(_articles(path, _whole(file)), 1):
            where = f"article {article}"
            for at, paragraph in enumerate(_list(path, where, one, "paragraphs"), 1):
                yield from _questions(path, f"{where}, paragraph {at}", one, paragraph)

    return Table(str(path), COLUMNS, read, file.check)


def _whole(file: TextSource) -> str:
    blocks, characters = [], 0
    for block in file.blocks():
        blocks.append(block)
        characters += len(block)
        if characters > LONGEST:
            raise DataError(
                f"{file.path} has more than {LONGEST} characters, and JSON is read whole. {_LINES}"
            )
    return "".join(blocks)


def _articles(path: Path | str, text: str) -> list[object]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        lines = " It looks like JSON Lines: name it .jsonl." if error.msg == "Extra data" else ""
        raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg}).{lines}") from None
    except (RecursionError, ValueError) as error:  # nested hundreds deep, or 4300 digits
        raise DataError(f"{path} is JSON that cannot be read ({error}). {_LINES}") from None
    return _list(path, "", found, "data")


def _questions(
    path: Path | str, where: str, article: object, paragraph: object
) -> Iterator[Record]:
    title = article.get("title") if isinstance(article, Mapping) else None
    for at, asked in enumerate(_list(path, where, paragraph, "qas"), 1):
        place = f"{where}, question {at}"
        assert isinstance(paragraph, Mapping)
        if not isinstance(asked, Mapping):
            _refuse(path, place, "is no object")
        yield (
            place,
            {
                "id": asked.get("id"),
                "title": title,
                "context": paragraph.get("context"),
                "question": asked.get("question"),
                ANSWERS: _answers(path, place, asked),
            },
        )


def _answers(path: Path | str, place: str, asked: Mapping[object, object]) -> object:
    """Answers in the hub's flat form; None of a question that is not labelled."""
    impossible = asked.get("is_impossible") is True
    if asked.get(ANSWERS) is None:
        return {TEXT: [], START: []} if impossible else None
    found = _list(path, place, asked, ANSWERS)
    if impossible and found:
        _refuse(path, place, "is_impossible, and has answers")
    if not all(isinstance(one, Mapping) and TEXT in one and START in one for one in found):
        _refuse(path, place, f"has an answer without {TEXT} and {START}")
    return {key: [one[key] for one in found if isinstance(one, Mapping)] for key in (TEXT, START)}


def _list(path: Path | str, where: str, value: object, key: str) -> list[object]:
    """The list under a key of an object.

    Raises:
        DataError: there is none.
    """
    found = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(found, list):
        _refuse(path, where, f"no list '{key}'")
    return found


def _refuse(path: Path | str, where: str, what: str) -> NoReturn:
    place = f"{path}, {where}" if where else str(path)
    raise DataError(f"{place}: {what}, and a .json file is read in {_FORM} alone. {_LINES}")
