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
