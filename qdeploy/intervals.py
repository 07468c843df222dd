"""How far a share that was counted may be from the true one."""

from __future__ import annotations

import math

_Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson_interval(right: int, n: int, z: float = _Z95) -> tuple[float, float]:
    """Interval of a share by Wilson's score (1927); 95 % by default.

    Args:
        right: rows that are right, 0 … n.
        n: rows, at least 1.
        z: normal quantile of the wanted level.

    >>> [round(x, 4) for x in wilson_interval(0, 10)]
    [0.0, 0.2775]
    """
    share = right / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low, high = (centre - half) / scale, (centre + half) / scale
    # rounding must not push the ends past the share at 0 and n
    return max(0.0, min(low, share)), min(1.0, max(high, share))
