"""`qdeploy predict`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from qdeploy import api
from qdeploy.cli import options, sections, streams, tables
from qdeploy.cli import output as talk
from qdeploy.errors import GateError
from qdeploy.evaluate.options import PredictOptions
from qdeploy.figures import counted, speed
from qdeploy.names import few
from qdeploy.schemas.prediction import AnsweredFile

_NAMED = 6  # classes
_TYPED = {"jsonl": 'lines of JSON ({"text": "..."}; --format text for plain ones)', "text": "texts"}


@sections.command("predict")
@click.argument("engine_dir", type=options.PATH)
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default="-")
@options.of(PredictOptions)
@options.reporting
def predict(engine_dir: Path, file: Path, out: Path | None, **settings: object) -> None:
    """Answer rows of text, as they come.

    FILE is a CSV, TSV, JSONL, text, Parquet, CoNLL or SQuAD file; standard input when it is - or
    left out. Answers are one line for each row, in the order of the rows. A row without text has
    null for an answer, and exit code 1 says so.

    \b
      qdeploy predict ENGINE_DIR rows.csv --keep id --out answers.jsonl
      echo "a text" | qdeploy predict ENGINE_DIR --format text
    """
    if out is not None and str(out) in ("-", "/dev/stdout"):
        out = None
    if out is None and talk.result_goes_to_stdout():
        raise click.UsageError(
            "--json - and the answers would share standard output. Name a file with --out, or one "
            "for --json."
        )
    if str(file) == "-" and sys.stdin.isatty():
        form = str(settings["format"] or "jsonl")
        streams.say(f"Reading {_TYPED.get(form, form)} from the terminal; Ctrl-D ends them.")
    with talk.progress() as progress:
        drawn = out is not None or not sys.stdout.isatty()  # answers scroll where a bar stands
        result = api.predict_file(
            engine_dir, file, None, out=out, progress=progress if drawn else None, **settings
        )
    talk.report(result, partial(_summary, print_=streams.say if out is None else tables.say))
    if result["unanswered"]:
        rows = counted(result["unanswered"], "row")
        raise GateError(f"{rows} without an answer: see the warning.", result)


def _summary(result: AnsweredFile, print_: Callable[[str], None]) -> None:
    """What was answered; on standard error where the answers are on standard output."""
    rate = result["rows_per_s"]
    fast = f", {speed(rate)} rows a second" if rate else ""
    print_(
        f"{counted(result['rows'], 'row')} answered in {result['seconds']:.1f} s{fast}, "
        f"{result['threads']} threads"
    )
    if result["answers"]:
        most = sorted(result["answers"].items(), key=lambda item: -item[1])
        print_(few([f"{label} {count}" for label, count in most], _NAMED))
    if result["out"] is not None:
        print_(f"Answers: {result['out']}")
