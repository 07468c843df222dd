"""The result of `inspect --against` as tables."""

from __future__ import annotations

from collections import defaultdict

from qdeploy.cli import tables
from qdeploy.figures import decibels
from qdeploy.names import few, short_name
from qdeploy.report.comparison_figures import (
    MEASURES,
    costliest,
    headline,
    metric_of,
    products_note,
    table_of,
)
from qdeploy.schemas.comparison import FileComparison

_COSTLIEST = 5  # products that are named; all of them with --verbose


def show(report: FileComparison, *, verbose: bool = False) -> None:
    """Print a comparison: a line a measure, a column a file."""
    from rich.table import Table

    tables.wrapped(headline(report))
    rows = table_of(report)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for subject in report["subjects"]:
        table.add_column(subject["name"], overflow="fold")
    for at, name in enumerate(MEASURES[1:], 1):
        cells = [row[at] for row in rows]
        if any(cells):
            table.add_row(name or metric_of(report), *cells)
    tables.say("")
    tables.show(table)
    tables.say("")
    tables.facts(_facts(report))
    if report["products"] is not None:
        _products(report, verbose=verbose)


def _facts(report: FileComparison) -> list[tuple[str, str]]:
    data, found = report["data"], report["found"]
    rows = [(one["name"], one["file"]) for one in report["subjects"]]
    text = f"{data['n']} of {data['source']}"
    if data["left_out"]:
        text += f", without the {data['left_out']} that calibrated {report['rebuilt'] and 'it'}"
    rows.append(("rows", text))
    if report["no_accuracy"] is not None:
        rows.append(("accuracy", f"not measured: {report['no_accuracy']}"))
    rows.append(("INT8", found["int8"]["summary"]))
    if (processors := found.get("processors")) is not None:
        rows.append(("processors", processors["summary"]))
    for cause in found.get("float") or []:
        names = ", ".join(map(short_name, cause["gemms"]))
        rows.append(("in float", f"{cause['count']} ({cause['reason']}): {names}"))
    return rows


def _products(report: FileComparison, *, verbose: bool) -> None:
    """The products that cost most, and those whose cost is not known."""
    products = report["products"]
    assert products is not None
    tables.say("")
    if known := costliest(report):
        tables.wrapped(products_note(report))
        for one in known if verbose else known[:_COSTLIEST]:
            tables.say(f"  {decibels(one['alone_db'] or 0):>5} dB  {short_name(one['of'])}")
        if len(known) > _COSTLIEST and not verbose:
            tables.say(f"  and {len(known) - _COSTLIEST} more, with less noise: add -v.")
    causes = defaultdict[str, list[str]](list)
    for other in products["not_matched"]:
        causes[other["reason"]].append(other["product"])
    for reason, names in causes.items():
        shown = few(names, len(names) if verbose else _COSTLIEST)
        shown += " (all of them: -v)" if len(names) > _COSTLIEST and not verbose else ""
        tables.wrapped(f"  not known  {shown}: {reason}", hanging="    ")
