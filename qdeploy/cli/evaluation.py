"""The result of `eval` as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qdeploy.cli import choices, tables
from qdeploy.cli.streams import shown
from qdeploy.figures import counted
from qdeploy.report.figures import figures_of, measured
from qdeploy.schemas.evaluation import Data, Evaluation

if TYPE_CHECKING:
    from rich.text import Text

    from qdeploy.report.figure import Figure


def table(report: Evaluation) -> None:
    """The result of `eval`, with the INT8 check beside the latency."""
    from rich.table import Table  # here and below: `qdeploy --version` need not wait for rich

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")  # a path is shown to its end
    for name, value in _subject(report):
        table.add_row(name, value)
    for figure in figures_of(report):
        table.add_row(figure.name, _value(figure))
    tables.show(table)


def _subject(report: Evaluation) -> list[tuple[str, str]]:
    """What was measured, on which rows, and what could not be."""
    rows = [("engine", f"{report['engine']} ({_what(report)})")]
    if report["auto"] is not None:
        rows.append(("target", choices.choice(report["auto"])))
    rows.append(("data", _data(report["data"])))
    if report["no_accuracy"] is not None:
        rows.append((measured(report), f"not measured: {report['no_accuracy']}"))
    return rows


def _what(report: Evaluation) -> str:
    rest = report["rest_precision"]
    return ", ".join(
        [report["strategy"], report["target"], *([] if rest == "f32" else [rest])],
    )


def _data(data: Data) -> str:
    """The rows, and how they were found: `reviews.csv, 872 rows (text, label: …)`."""
    text = f"{data['source']}, {counted(data['n'], 'row')}"
    if data["left_out"]:
        text += f" without the {data['left_out']} that calibrated it"
    if data["stands_in"]:
        text += " (they stand in for rows of your own)"
    if data["how"]:
        columns = data["columns"]
        read = (columns["first"], columns.get("second"), columns["label"])
        names = ", ".join(name for name in read if name is not None)
        text += f" ({names}: {data['how']})"
    return text


def _value(figure: Figure) -> str | Text:
    """Red where a reader should stop."""
    from rich.text import Text

    if figure.mood != "bad":
        return figure.text
    detail = f" ({figure.detail})" if figure.detail else ""
    return Text.assemble((shown(figure.value), "bold red"), shown(detail))
