"""How figures are written, in the terminal, on pages and in files alike."""

from __future__ import annotations

import math


def percent(share: float | None) -> str:
    """A share in percent, rounded down: only all of it is 100 %.

    >>> percent(0.99999), percent(1.0), percent(0.0)
    ('99.99 %', '100 %', '0 %')
    """
    if share is None:
        return "none"
    hundredths = math.floor(1e4 * share + 1e-6)
    return f"{hundredths / 100:g} %" if hundredths or not share else "below 0.01 %"


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
