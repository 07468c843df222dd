"""The result of `qdeploy analyze` for the eye, in 80 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import click

from qdeploy.cli.output import is_verbose
from qdeploy.cli.tables import say, show, table_width, wrapped
from qdeploy.figures import changed, decibels, expected, gain
from qdeploy.schemas.analysis import Analysis, AnalyzedSite, MeasuredPlan

_LISTED = 12  # sites; all of them with -v, in --json and in --html
# Columns, the first one to stay longest; those that a narrow terminal has no room for are left out,
# so that no name is broken.
_COLUMNS = ("alone\ndB", "changed", "expected", "gain\ndB", "outliers", "kurtosis")
_APART, _EDGES = 3, 2  # blanks between two columns, and at both ends
_TOO_FEW = 300  # answers: of fewer a count does not see a third of a percent


def analysis(report: Analysis) -> None:
    """The costliest sites, what to do about them, and the command to type."""
    whole = is_verbose(click.get_current_context())
    sites = sorted(report["sites"], key=_by_cost)
    shown = sites if whole else sites[:_LISTED]
    _table(report, shown)
    if len(shown) < len(sites):
        say(f"{len(sites) - len(shown)} more sites: with -v, --json and --html.")
    if whole:
        for site in shown:
            say(f"  {site['short']}: {site['name']} ({site['kind']})")
    _legend(report)
    _plans(report)
    _left_out(report)
    for entry in report["recommendations"]:
        wrapped(f"- {entry['text']}")
    _next(report)


def _by_cost(site: AnalyzedSite) -> tuple[bool, float]:
    """Most costly first: by what is left of the logits; what was not measured last."""
    if site["cost"]:
        return False, site["cost"]["alone_db"]
    expected = site["w8a8_expected_db"]
    return True, math.inf if expected is None else expected


def _table(report: Analysis, sites: list[AnalyzedSite]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    model, source, scope = report["model"], report["data"]["source"], report["scope"]
    title = f"{model}: sites by cost, scope {scope}, {report['cost_rows']} rows of {source}"
    if not report["cost_rows"]:
        title = f"{model}: sites by expected noise, scope {scope}; no cost was measured"
    table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False)
    rows = [(site["short"], *_cells(site)) for site in sites]
    names = _fitting(rows)
    table.add_column("site", overflow="fold")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row[: 1 + len(names)])
    show(table)
    if left := _COLUMNS[len(names) :]:
        listed = ", ".join(name.replace("\n", " ") for name in left)
        wrapped(f"No room here: {listed}. --json and --html have them.", hanging="")


def _cells(site: AnalyzedSite) -> list[str]:
    """Of `_COLUMNS`."""
    cost = site["cost"]
    measured = ["not run", "", "", ""]
    if cost is not None:
        measured = [
            decibels(cost["alone_db"]),
            "" if cost["flipped"] is None else str(cost["flipped"]),
            "" if cost["flip_percent"] is None else f"{cost['flip_percent']:.1f} %",
            "" if cost["gain_db"] is None else gain(cost["gain_db"]),
        ]
    return [
        *measured,
        str(site["outlier_channel_count"]),
        f"{site['kurtosis']:.3g}",
    ]


def _fitting(rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The columns beside the site for which there is room; two at least."""
    columns = zip(*[("site", *_COLUMNS), *rows], strict=True)
    widths = [max(len(line) for cell in column for line in cell.split("\n")) for column in columns]
    count = len(_COLUMNS)
    while count > 2 and sum(widths[: 1 + count]) + _APART * count + _EDGES > table_width():
        count -= 1
    return _COLUMNS[:count]


def _legend(report: Analysis) -> None:
    if not report["cost_rows"]:
        return
    text = (
        "alone: SQNR of the logits with this site alone in 8 bits, under one scale. gain: what the "
        "logits gain when it alone stays in float and all others are in 8 bits."
    )
    answers = report["answers"]
    if answers is not None:
        text += (
            f" changed: how many of {answers} answers change with this site alone in 8 bits. "
            "expected: the share to expect, as each row's noise is tried on the other rows; no "
            "larger share turns wrong."
        )
        if answers < _TOO_FEW:
            text += (
                f" {answers} answers are few: a single one is {100 / max(answers, 1):.1f} %. "
                "--cost-rows takes more."
            )
    wrapped(text, hanging="")


def _plans(report: Analysis) -> None:
    """What whole plans leave of the logits, those of other scopes too."""
    for plan in report["plans"]:
        text = f"{plan['strategy']}, {plan['sites']} sites in 8 bits"
        if plan["scope"] != report["scope"]:
            text = f"With --scope {plan['scope']}: {text}"
        if plan["float_sites"]:
            text += f", {len(plan['float_sites'])} in float"
        wrapped(f"{text}: {_outcome(plan)}")


def _outcome(plan: MeasuredPlan) -> str:
    text = f"{decibels(plan['sqnr_db'])} dB"
    if plan["flipped"] is None:
        return text
    return f"{text}, {changed(plan['flipped'])} ({expected(plan['flip_percent'] or 0.0)})"


def _left_out(report: Analysis) -> None:
    left = report["left_out"]
    parts = (("costs", left["costs"]), ("remedies", left["remedies"]), ("gains", left["gains"]))
    found = [f"{what} of {len(names)} sites" for what, names in parts if names]
    if found and report["cost_rows"]:
        counts = ", ".join(found)
        wrapped(f"Not measured within {report['seconds']:g} s: {counts}. --seconds takes more.")


def _next(report: Analysis) -> None:
    """The command to type, and what to expect of it."""
    chosen = report["build"]
    text = chosen["reason"]
    if chosen["plan"] is not None:
        text += (
            f" Expect {_outcome(report['plans'][chosen['plan']])}, from the activations alone: "
            "int8 weights add noise of about 30 dB. `build` measures both together."
        )
    wrapped(text, hanging="")
    say(f"Next: {chosen['command']}")  # of `qdeploy.commands` too
