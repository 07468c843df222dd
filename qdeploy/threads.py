"""How many threads an engine may be given."""

from __future__ import annotations

import os

from qdeploy.errors import PlanError

_PER_CORE, _ALWAYS = 4, 64  # more than four a core only wait for each other


def check_threads(threads: int) -> int:
    """The number, where it is one that helps.

    Raises:
        PlanError: not a whole number, below 1, or absurdly many: each would be made.
    """
    cores = os.cpu_count() or 1
    most = max(_ALWAYS, _PER_CORE * cores)
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= most:
        raise PlanError(
            f"threads is {threads!r}, and a whole number from 1 to {most} was expected. This "
            f"machine has {cores} processors; more threads than that only slow it down."
        )
    return threads
