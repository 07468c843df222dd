"""How figures are written, in the terminal, on pages and in files alike.

Each function gives digits. The unit is the caller's: it stands beside them in a sentence, and in
the heading of a column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence


def percent(share: float | None) -> str:
    """A share in percent, rounded down: only all of it is 100 %.

    >>> percent(0.99999), percent(1.0), percent(0.0)
    ('99.99 %', '100 %', '0 %')
    """
    if share is None:
        return "none"
    hundredths = _hundredths(share)
    return f"{hundredths / 100:g} %" if hundredths or not share else "below 0.01 %"


def percent_cell(share: float | None) -> str:
    """The same as digits of a column; empty where there is none.

    >>> percent_cell(0.99999), percent_cell(1.0), percent_cell(None)
    ('99.99', '100.00', '')
    """
    return "" if share is None else f"{_hundredths(share) / 100:.2f}"


def _hundredths(share: float) -> int:
    return math.floor(1e4 * share + 1e-6)


def gain(level: float) -> str:
    """Decibels more or fewer.

    >>> gain(1.25), gain(-0.04)
    ('+1.2', '-0.0')
    """
    return f"{level:+.1f}"


def kurtosis(value: float) -> str:
    """A kurtosis, in three digits; a normal distribution has 3.

    >>> kurtosis(3.0), kurtosis(271.14), kurtosis(12345.6)
    ('3', '271', '12346')
    """
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def expected(flip_percent: float) -> str:
    """How many answers change by expectation, in percent.

    >>> expected(3.14)
    '3.1 % expected'
    """
    return f"{flip_percent:.1f} % expected"


def counted(number: int, noun: str) -> str:
    """A number and what it counts.

    >>> counted(1, "run"), counted(20, "run")
    ('1 run', '20 runs')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def changed(flipped: int, answers: int | None = None) -> str:
    """How many answers changed, as a clause.

    Args:
        flipped: answers that changed.
        answers: of so many; None where that was said before.

    >>> changed(1), changed(1, 32), changed(2, 32), changed(0)
    ('1 answer changes', '1 of 32 answers changes', '2 of 32 answers change', '0 answers change')
    """
    noun = "answer" if flipped == 1 and answers is None else "answers"
    return (
        f"{flipped}{'' if answers is None else f' of {answers}'} {noun} "
        f"{'changes' if flipped == 1 else 'change'}"
    )


def speed(per_second: float) -> str:
    """Rows a second: whole, or with two digits where they are few.

    >>> speed(1234.5), speed(9.96), speed(0.125)
    ('1234', '10', '0.12')
    """
    return f"{per_second:.0f}" if per_second >= 9.95 else f"{per_second:.2g}"


def accuracy(share: float) -> str:
    """An accuracy or an agreement, in percent.

    >>> accuracy(0.8675), accuracy(1.0)
    ('86.75', '100.00')
    """
    return f"{100 * share:.2f}"


def correlation(value: float) -> str:
    """A correlation, a cosine, a measure of a ranking, or an error: four digits.

    >>> correlation(0.86754), correlation(1.0)
    ('0.8675', '1.0000')
    """
    return f"{value:.4f}"


def measured(metric: str, value: float) -> str:
    """A figure of a metric: an accuracy in percent, any other with four digits.

    >>> measured("accuracy", 0.8675), measured("spearman", 0.8675)
    ('86.75', '0.8675')
    """
    return accuracy(value) if metric == "accuracy" else correlation(value)


def points(drop: float, *, signed: bool = True) -> str:
    """A difference of two accuracies, in points: above zero is lost.

    >>> points(0.0024), points(-0.01), points(0.31, signed=False)
    ('+0.24', '-1.00', '31.00')
    """
    return f"{100 * drop:{'+' if signed else ''}.2f}"


def probability(p: float) -> str:
    """A p-value.

    >>> probability(0.0153), probability(1e-9)
    ('0.015', '1e-09')
    """
    return f"{p:.2g}"


def decibels(level: float) -> str:
    """An SQNR, in dB.

    >>> decibels(28.94)
    '28.9'
    """
    return f"{level:.1f}"


def logit_difference(value: float) -> str:
    """A difference of two logits.

    >>> logit_difference(0.3125), logit_difference(2.98e-7)
    ('0.312', '2.98e-07')
    """
    return f"{value:.3g}"


def milliseconds(time: float) -> str:
    """A time, in ms: two digits behind the point, below 1 ms three.

    >>> milliseconds(19.804), milliseconds(0.0424)
    ('19.80', '0.042')
    """
    return f"{time:.2f}" if time >= 1 else f"{time:.3f}"


def tera(operations: float) -> str:
    """10¹² operations a second: two digits.

    >>> tera(0.214), tera(0.1028), tera(1.36), tera(12.4)
    ('0.21', '0.10', '1.4', '12')
    """
    return f"{operations:.0f}" if operations >= 9.95 else f"{operations:#.2g}"


def factor(value: float) -> str:
    """How many times as fast, or as large.

    >>> factor(3.128)
    '3.13'
    """
    return f"{value:.2f}"


def megabytes(size: float) -> str:
    """A size on disk or in memory, in MB of 10⁶ bytes.

    >>> megabytes(22.94)
    '22.9'
    """
    return f"{size:.1f}"


def interval(ends: Sequence[float], digits: Callable[[float], str]) -> str:
    """Both ends of an interval, each written as the figure between them.

    >>> interval([3.1, 3.174], factor)
    '3.10 to 3.17'
    """
    return " to ".join(map(digits, ends))


def part(share: float) -> str:
    """A share of rows, in percent; a few of many never read as none.

    >>> part(0.2), part(0.0002), part(0.0)
    ('20.0 %', '0.02 %', '0.0 %')
    """
    return f"{100 * share:.1f} %" if share >= 0.001 or not share else f"{100 * share:.1g} %"


def row_tokens(lengths: Mapping[str, float]) -> str:
    """How long rows are.

    >>> row_tokens({"median": 48, "p95": 90, "max": 128})
    'median 48, 95 % up to 90, at most 128'
    """
    text = f"median {lengths['median']:g}, 95 % up to {lengths['p95']:g}"
    return f"{text}, at most {lengths['max']:g}" if "max" in lengths else text
