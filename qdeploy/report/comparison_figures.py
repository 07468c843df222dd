"""The figures of `qdeploy inspect FILE --against FP32`."""

from __future__ import annotations

from qdeploy.figures import (
    changed,
    counted,
    decibels,
    factor,
    interval,
    logit_difference,
    measured,
    megabytes,
    milliseconds,
    percent,
    points,
    probability,
)
from qdeploy.schemas.comparison import FileAnswers, FileComparison, ProductNoise
from qdeploy.schemas.quality import ACCURACY, QualityFigure

MEASURES = (
    "file",
    "agreement, %",
    "SQNR, dB",
    "largest difference",
    "",  # the metric
    "drop",
    "may be chance",
    "INT8 of all FLOPs",
    "size, MB",
    "p50, ms",
    "× FP32",
)


def metric_of(report: FileComparison) -> str:
    """The heading of what the answers are judged by; empty where rows have no labels."""
    figure = figure_of(report["subjects"][0])
    if figure is None:
        return ""
    return "accuracy, %" if figure["name"] == ACCURACY else figure["name"]


def table_of(report: FileComparison) -> list[tuple[str, ...]]:
    """A row of text for each file, under `MEASURES`."""
    return [_cells(subject) for subject in report["subjects"]]


def costliest(report: FileComparison) -> list[ProductNoise]:
    """The INT8 products whose cost is known, the noisiest first."""
    products = report["products"]
    known = [] if products is None else products["products"]
    return sorted(
        (one for one in known if one["alone_db"] is not None), key=lambda one: one["alone_db"] or 0
    )


def headline(report: FileComparison) -> str:
    """What the file loses, in one sentence."""
    own = report["subjects"][1]
    answers, figure = own["answers"], figure_of(own)
    rows, parts = report["data"]["n"], []
    if answers and (flipped := answers.get("flipped")) is not None:
        parts.append(changed(flipped, rows))
    if figure and figure["drop"] is not None:
        verb = "lost" if figure["drop"] >= 0 else "gained"
        lost = abs(figure["drop"])
        amount = points(lost, signed=False) + " points of accuracy"
        if figure["name"] != ACCURACY:
            amount = f"{measured(figure['name'], lost)} of {figure['name']}"
        parts.append(f"{amount} {verb}")
    if answers:
        parts.append(
            f"{level_text(answers['sqnr_db'], equal=answers['equal_logits'])} against FP32"
        )
    parts.append(f"{percent(own['int8_share'])} of the work in INT8")
    return "; ".join(parts) + "."


def products_note(report: FileComparison) -> str:
    """What the figures of single products are, and what they leave out."""
    products = report["products"]
    assert products is not None
    text = (
        f"Output SQNR on {counted(products['rows'], 'row')} where this product of the FP32 file "
        "alone has its input, weight and output rounded as the file rounds them"
    )
    if products["together_db"] is not None:
        text += f"; all of them together {decibels(products['together_db'])} dB"
    return text + "."


def figure_of(subject: FileAnswers) -> QualityFigure | None:
    """What answers are judged by; None where rows have no labels."""
    quality = subject["quality"]
    if quality is None or not quality["figures"]:
        return None
    found = [one for one in quality["figures"] if one["name"] == quality["metric"]]
    return found[0] if found else None


def level_text(level: float | None, *, equal: bool) -> str:
    """An SQNR, in words where there is none."""
    return f"{decibels(level)} dB" if level is not None else "equal" if equal else "no SQNR"


def _cells(subject: FileAnswers) -> tuple[str, ...]:
    answers, figure = subject["answers"], figure_of(subject)
    agreement = sqnr = difference = chance = ""
    if answers is not None:
        if "agreement" in answers:
            agreement = f"{100 * answers['agreement']:.2f}"
            ends = [100 * end for end in answers["agreement_ci95"]]
            agreement += f" ({interval(ends, '{:.2f}'.format)})"
        sqnr = level_text(answers["sqnr_db"], equal=answers["equal_logits"]).removesuffix(" dB")
        difference = logit_difference(answers["max_abs_diff"])
        if "mcnemar_p" in answers:
            chance = probability(answers["mcnemar_p"])
    value = drop = ""
    if figure is not None:
        value = measured(figure["name"], figure["value"])
        if figure["drop"] is not None and figure["drop_ci95"] is not None:
            digits = points if figure["name"] == ACCURACY else "{:+.4f}".format
            drop = f"{digits(figure['drop'])} ({interval(figure['drop_ci95'], digits)})"
    latency, speed = subject["latency_ms"], subject["speedup"]
    return (
        f"{subject['name']}: {subject['file']}",
        agreement,
        sqnr,
        difference,
        value,
        drop,
        chance,
        percent(subject["int8_share"]),
        megabytes(subject["size_mb"]),
        "" if latency is None else milliseconds(latency["p50"]),
        "" if speed is None else factor(speed["ratio"]),
    )
