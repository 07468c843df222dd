"""The page and the picture of `qdeploy sweep`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from qdeploy.figures import (
    counted,
    decibels,
    factor,
    interval,
    measured,
    megabytes,
    milliseconds,
    percent_cell,
    points,
    probability,
)
from qdeploy.report.page import Card, Column, Page, Row, Section, Table
from qdeploy.report.pictures import Draw, as_png, as_svg, picture_folder, scatter
from qdeploy.schemas.quality import ACCURACY
from qdeploy.schemas.sweep import FinishedTrial, RanInInt8, SweepResult, SweptTrial, is_finished

_NAMES = (Column("trial", text=True), Column("target", text=True))
_COLUMNS = (
    Column("95 %"),
    Column("drop"),
    Column("may be chance"),
    Column("SQNR, dB"),
    Column("p50, ms"),
    Column("p95, ms"),
    Column("× FP32"),
    Column("memory, MB"),
    Column("size, MB"),
    Column("8 bits planned, %"),
    Column("GEMMs that ran so"),
    Column("8 bits of all FLOPs, %"),
)


def page(result: SweepResult) -> Page:
    """A sweep as a page."""
    trials = result["trials"]
    done = finished(trials)
    failed = [(t["label"], t["error"]) for t in trials if t["error"] is not None]
    protocol = result["setting"]["protocol"]
    shape = " × ".join(map(str, protocol["shapes"][0]))
    draw, alt = picture(result)
    sections = [
        Section(
            "What there is to choose from",
            pictures=(as_svg(draw, alt, height=4.4, narrow=4.4),),
            note="On the dashed line nothing is both better and faster. The dot's size is "
            "the engine's on disk.",
        ),
        Section(
            "Every trial",
            table=Table(
                (*_NAMES, Column(_metric(result)), *_COLUMNS),
                tuple(_row(trial, result) for trial in done),
            ),
            note=f"{shape}, {counted(protocol['warmup'], 'run')} before and "
            f"{protocol['iterations']} timed, "
            f"{protocol['threads']} threads; each engine in rounds that alternate with FP32's on "
            f"the same machine. {protocol['rows']} calibration rows, seed {protocol['seed']}. "
            "May be chance: McNemar's p of a drop of accuracy, the 95 % interval of any other.",
        ),
    ]
    if failed:
        columns = (Column("trial", text=True), Column("error", text=True))
        rows = tuple(Row(cells, "bad") for cells in failed)
        sections.append(Section("Failed", table=Table(columns, rows)))
    constant = [t["label"] for t in done if t["constant_predictor"]]
    return Page(
        title=f"Sweep of {result['model']}",
        kicker=f"{result['model']} on {', '.join(_targets(result))}: "
        f"{result['data']['n']} rows of {result['data']['source']}",
        headline=headline(result),
        cards=_cards(result),
        warnings=(
            *result["warnings"],
            *(f"CONSTANT PREDICTOR: {name} answers one class only." for name in constant),
        ),
        sections=tuple(sections),
        footer=footer(result),
    )


def footer(result: SweepResult) -> str:
    """Where, when and with what."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"{'; '.join(result['machines'])}; {', '.join(result['dates'])}; {versions}"


def finished(trials: list[SweptTrial]) -> list[FinishedTrial]:
    """Trials that ended with a result."""
    return [trial for trial in trials if is_finished(trial)]


def headline(result: SweepResult) -> str:
    """What to take, in one sentence."""
    trials = result["trials"]
    done = finished(trials)
    counted = f"{len(done)} of {len(trials)} engines were measured"
    if result["max_drop"] is None:
        fastest = min(done, key=lambda t: t["relative"])
        return f"{counted}; the fastest is {fastest['label']}, {_lost(fastest)}."
    if result["cheapest"] is None:
        return f"{counted}; none loses at most {result['max_drop']:g} points."
    best = next(t for t in done if t["key"] == result["cheapest"])
    return (
        f"{counted}; take {best['label']}: the fastest within {result['max_drop']:g} points, "
        f"{_lost(best)}."
    )


def _lost(trial: FinishedTrial) -> str:
    ratio = f", {factor(trial['speedup']['ratio'])} × FP32's speed" if trial["speedup"] else ""
    return f"{points(trial['drop'])} points lost{ratio}"


def _cards(result: SweepResult) -> tuple[Card, ...]:
    base, *_ = done = finished(result["trials"])
    cards = [Card(_value(base), f"{base['metric']} of FP32")]
    chosen = [t for t in done if t["key"] == result["cheapest"]]
    for best in chosen:
        cards.append(Card(_value(best), f"{best['metric']} of {best['label']}", "good"))
        if best["speedup"]:
            cards.append(
                Card(f"{factor(best['speedup']['ratio'])} ×", "its speed over FP32", "good")
            )
        cards.append(Card(f"{megabytes(best['size_mb']['total'])} MB", "its size"))
    return tuple(cards)


def _metric(result: SweepResult) -> str:
    """The metric, and its unit."""
    name = finished(result["trials"])[0]["metric"]
    return f"{name}, %" if name == ACCURACY else name


def _value(trial: FinishedTrial) -> str:
    unit = " %" if trial["metric"] == ACCURACY else ""
    return measured(trial["metric"], trial["value"]) + unit


def _chance(trial: FinishedTrial) -> str:
    if trial["mcnemar_p"] is not None:
        return probability(trial["mcnemar_p"])
    return "" if trial["drop_ci95"] is None else interval(trial["drop_ci95"], points)


def _row(trial: FinishedTrial, result: SweepResult) -> Row:
    check, memory = trial["int8"], trial["memory_mb"] or {}
    mood = "good" if trial["key"] == result["cheapest"] else ""
    return Row(
        (
            trial["label"],
            trial["target"] if len(_targets(result)) > 1 else "",
            measured(trial["metric"], trial["value"])
            + (" CONSTANT" if trial["constant_predictor"] else ""),
            interval(trial["ci95"], partial(measured, trial["metric"])),
            points(trial["drop"]),
            _chance(trial),
            "" if trial["sqnr_db"] is None else decibels(trial["sqnr_db"]),
            milliseconds(trial["p50_ms"]),
            milliseconds(trial["p95_ms"]),
            factor(trial["speedup"]["ratio"] if trial["speedup"] else 1.0),
            megabytes(memory["peak"]) if "peak" in memory else "",
            megabytes(trial["size_mb"]["total"]),
            *_int8(check),
        ),
        "bad" if trial["constant_predictor"] else mood,
    )


def _targets(result: SweepResult) -> list[str]:
    """The targets of the trials, each once."""
    return list(dict.fromkeys(trial["target"] for trial in finished(result["trials"])))


def _int8(check: RanInInt8 | None) -> tuple[str, str, str]:
    """Share of all FLOPs that was planned, planned GEMMs that ran so, share of all that ran so."""
    if not check or not check["planned"]:
        return "", "", ""
    planned, ran = map(percent_cell, (check["planned_share"], check["flops_share"]))
    return planned, f"{check['executed']}/{check['planned']}", ran


def picture(result: SweepResult) -> tuple[Draw, str]:
    """The Pareto chart, and what it shows."""
    front = set(result["pareto"])
    done = finished(result["trials"])
    points = [
        (
            name,
            t["relative"],
            100 * t["value"] if t["metric"] == ACCURACY else t["value"],
            t["size_mb"]["total"],
            t["key"] in front,
        )
        for t, name in zip(done, short_names([t["label"] for t in done]), strict=True)
    ]
    metric = _metric(result)
    title = f"{metric.removesuffix(', %').capitalize()} against latency of every engine"
    return scatter(points, "time of a batch, FP32 = 1", metric, title), title


def short_names(labels: Sequence[str]) -> list[str]:
    """Labels without the words that most of them have, and without "option=", while they differ.

    >>> short_names(["fp32", "peg groups=2 sorted all", "peg groups=2 all", "w8a8 all"])
    ['fp32', 'peg 2 sorted', 'peg 2', 'w8a8']
    """
    counts = Counter(word for label in labels for word in set(label.split()[1:]))
    usual = {word for word, count in counts.items() if 2 * count > len(labels)}
    found = []
    for label in labels:
        first, *rest = label.split()
        kept = [word.split("=")[-1] for word in rest if word not in usual]
        found.append(" ".join([first, *kept]))
    return found if len(set(found)) == len(found) else list(labels)


def write_png(result: SweepResult, folder: Path) -> None:
    """The chart as pareto.png in a folder, which is made where it is missing.

    Raises:
        OutputError: it cannot be written.
    """
    picture_folder(folder)
    as_png(picture(result)[0], folder / "pareto.png", height=4.4)
