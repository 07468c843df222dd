"""`qdeploy predict`: answers to a file or a pipe of rows, block by block."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qdeploy.data.incoming import Asked, Incoming, open_incoming
from qdeploy.data.lengths import row_limit
from qdeploy.data.rows import Rows
from qdeploy.errors import DataError, PlanError, QDeployWarning, RowError
from qdeploy.evaluate.answer_lines import Lines, free_name, plain_value
from qdeploy.evaluate.file_answers import Answered, Answerer, labels_of
from qdeploy.evaluate.options import PredictOptions
from qdeploy.evaluate.predict import MOST_ROWS
from qdeploy.evaluate.predictor import Predictor
from qdeploy.figures import counted
from qdeploy.files.kept import note
from qdeploy.files.whole import check_file, check_reports, written
from qdeploy.head import EMBEDDINGS, SPANS, TOKENS
from qdeploy.options import given_or
from qdeploy.schemas.prediction import AnsweredFile
from qdeploy.types import PathLike, Progress

SCHEMA = 1
STAGE = "predict"
STDOUT = ("-", "/dev/stdout")  # of --out
_RUNS = 8  # of one block: enough to sort its rows by length, few enough to see answers soon


def predict_file(
    engine_dir: PathLike,
    file: PathLike = "-",
    options: PredictOptions | None = None,
    *,
    progress: Progress | None = None,
    **fields: Any,
) -> AnsweredFile:
    """Answer every row of a file; result and errors as `qdeploy.api.predict_file`.

    Args:
        fields: of the options, by name.
    """
    asked = given_or(PredictOptions, options, fields)
    out, max_length, keep = asked.out, asked.max_length, asked.keep
    place = None if out is None or str(out) in STDOUT else Path(out)
    if place is not None:
        check_file("--out", place)
        check_reports({"--out": place}, (engine_dir, file))
    predictor = Predictor(engine_dir, threads=asked.threads)
    if max_length is not None:
        row_limit(predictor.max_length, max_length)
    longest = predictor.window if predictor.task == SPANS else predictor.max_length
    answerer = Answerer(predictor, asked)
    incoming = open_incoming(file, asked.format)
    began = time.monotonic()
    with _sink(place) as (write, ascii_only):
        lines = Lines(asked.output_format, ascii_only)
        task = _Task(predictor, answerer, incoming, place, lines, max_length)
        rows = incoming.rows(asked.columns, keep, predictor.text_columns)
        task.run(rows, write, _RUNS * min(asked.batch_size, MOST_ROWS), progress)
        if not task.rows:
            write(task.header(keep))
    seconds = time.monotonic() - began
    if place is not None:
        note("--out", f"{place} was written")
    task.warn()
    return {
        "schema": SCHEMA,
        "kind": "prediction",
        "engine": str(engine_dir),
        "data": incoming.table.name,
        "out": None if place is None else str(place),
        "rows": task.rows,
        "answers": dict(task.answers) or None,
        "unanswered": task.unanswered,
        "fields": list(answerer.fields),
        "truncated": task.truncated,
        "max_length": max_length or longest,
        "batch_size": asked.batch_size,
        "threads": predictor.threads,
        "seconds": round(seconds, 3),
        "rows_per_s": task.rows / seconds if seconds else None,
    }


@contextlib.contextmanager
def _sink(place: Path | None) -> Iterator[tuple[Callable[[str], object], bool]]:
    """What takes the answers, and whether it takes ASCII alone: a file, or standard output."""
    if place is None:
        yield _print, (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        return
    with written("--out", place) as write:
        yield lambda text: write(text.encode()), False


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


class _Task:
    """Answers one source, and counts."""

    def __init__(
        self,
        predictor: Predictor,
        answerer: Answerer,
        incoming: Incoming,
        place: Path | None,
        lines: Lines,
        max_length: int | None,
    ) -> None:
        self._max_length = max_length
        self._predictor, self._answerer, self._incoming = predictor, answerer, incoming
        self._place, self._lines = place, lines
        self.rows = self.truncated = self.unanswered = 0
        self._first_fault = ""
        self.answers = Counter[str]()

    def run(
        self,
        rows: Iterator[Asked],
        write: Callable[[str], object],
        size: int,
        progress: Progress | None,
    ) -> None:
        """Answer row after row.

        Raises:
            DataError: of the source, or of a row that the model refuses, with what stands on disk
                or was printed all the same.
        """
        expected = self._incoming.expected
        try:
            for block in self._incoming.blocks(rows, size):
                for part in self._parts(block):
                    write(part)
                if self._place is None:
                    note("answers", f"{counted(self.rows, 'row')} answered")
                if progress:
                    progress(STAGE, self.rows, expected and max(expected, self.rows))
        except DataError as error:
            raise DataError(f"{error} {self._all_the_same()}".rstrip()) from error
        if progress and self.rows and expected != self.rows:
            progress(STAGE, self.rows, self.rows)

    def _parts(self, block: list[Asked]) -> Iterator[str]:
        """Lines of a block; of its rows one by one where it holds one that the model refuses."""
        try:
            yield self._answer(block)
            return
        except DataError as error:
            fault = error
        if len(block) == 1 and isinstance(fault, RowError):
            yield self._answer([block[0]._replace(fault=fault.fact)])
            return
        if len(block) == 1:
            raise DataError(f"{self._incoming.table.name}, {block[0].place}: {fault}") from fault
        for row in block:
            yield from self._parts([row])

    def header(self, keep: str | None) -> str:
        """What is written of a source without rows."""
        fields = self._answerer.fields
        kept = [free_name(name, set(fields)) for name in self._incoming.kept_columns(keep)]
        return self._lines.header([*kept, *fields])

    def _answer(self, block: list[Asked]) -> str:
        """Lines of a block. A row that cannot be answered has one: its fields are null."""
        asked = [row for row in block if row.fault is None]
        answered = self._answers(asked) if asked else Answered([], 0)
        names = self._answerer.fields
        found = iter(answered.records)
        given = [dict.fromkeys(names) if row.fault else next(found) for row in block]
        source, fields = self._incoming.table.name, set(names)
        records = [
            {free_name(name, fields): plain_value(value) for name, value in row.kept.items()}
            | record
            for row, record in zip(block, given, strict=True)
        ]
        text = self._lines.of(records)
        for row in block:
            if row.fault is not None:
                self._first_fault = self._first_fault or f"{source}, {row.place}: {row.fault}"
                self.unanswered += 1
        self.rows += len(block)
        self.truncated += answered.truncated
        self.answers.update(label for record in answered.records for label in labels_of(record))
        return text

    def _answers(self, block: list[Asked]) -> Answered:
        pairs = len(block[0].texts) == 2
        if pairs and self._predictor.task in (TOKENS, EMBEDDINGS):
            does = "embeds" if self._predictor.task == EMBEDDINGS else "names the tokens of"
            raise PlanError(
                f"This engine {does} one text, and pairs of texts were found. Name the column of "
                "the text with --columns COLUMN."
            )
        if not pairs and self._predictor.task == SPANS:
            raise PlanError(
                "This engine answers questions in their contexts, and rows of one text were found. "
                "Name both columns with --columns QUESTION,CONTEXT."
            )
        if self._max_length is not None:
            self._predictor.check_room(self._max_length, 1 + pairs)
        rows = Rows(
            tuple(row.texts[0] for row in block),
            tuple(row.texts[1] for row in block) if pairs else None,
            None,
            self._incoming.table.name,
            tuple(range(self.rows, self.rows + len(block))),
        )
        return self._answerer.answer(rows)

    def _all_the_same(self) -> str:
        if self._place is not None:
            return f"{self._place} was not written."
        return f"Rows before it that were answered: {self.rows}." if self.rows else ""

    def warn(self) -> None:
        """Say that rows were cut, or have no answer."""
        if self.unanswered:
            warnings.warn(
                f"{self.unanswered} of {self.rows} rows could not be answered: their fields are "
                f"null. The first is {self._first_fault}. Mend these rows, and answer them again.",
                QDeployWarning,
                stacklevel=3,
            )
        asked = self._max_length
        if self.truncated:
            reason = "--max-length says so" if asked else "the model takes no more"
            warnings.warn(
                f"{self.truncated} of {self.rows} rows have more than "
                f"{asked or self._predictor.max_length} tokens and were cut there: {reason}.",
                QDeployWarning,
                stacklevel=3,
            )
