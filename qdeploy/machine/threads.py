"""How many threads an engine may be given, and how many it gets where nobody says."""

from __future__ import annotations

import os
from pathlib import Path

from qdeploy.errors import PlanError

_PER_CORE, _ALWAYS = 4, 64  # more than four a core only wait for each other
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")


def check_threads(threads: int | None) -> int:
    """The number, where it is one that helps; of None the cores that the process may use.

    Raises:
        PlanError: not a whole number, below 1, or absurdly many: each would be made.
    """
    if threads is None:
        return usable_cores()
    cores = os.cpu_count() or 1
    most = max(_ALWAYS, _PER_CORE * cores)
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= most:
        raise PlanError(
            f"threads is {threads!r}, and a whole number from 1 to {most} was expected. This "
            f"machine has {cores} processors; more threads than that only slow it down."
        )
    return threads


def usable_cores() -> int:
    """The cores that this process may use, at least 1.

    The smaller of two numbers: processors that its affinity allows, and whole processors of the CPU
    quota of its control groups (version 2 and 1), as a container has one.
    """
    try:
        allowed = len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # no Linux
        allowed = os.cpu_count() or 1
    quota = _quota()
    return max(1, allowed if quota is None else min(allowed, int(quota)))


def _quota() -> float | None:
    """Processors of the smallest CPU quota of the groups that this process is in; None for none."""
    found = [quota for folder in _folders() if (quota := _quota_of(folder)) is not None]
    return min(found, default=None)


def _folders() -> list[Path]:
    """Folders of the control groups of this process, with those above them.

    A container may see the host's names of its groups and only its own folder, the top one: it is
    among those above.
    """
    try:
        lines = _OWN_GROUPS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if number == "0" and not controllers:
            tops = [_CGROUPS, _CGROUPS / "unified"]
        elif "cpu" in controllers.split(","):
            tops = [_CGROUPS / controllers, _CGROUPS / "cpu"]
        else:
            continue
        for top in tops:
            own = top / name.strip("/")
            found += [own, *(folder for folder in own.parents if top in (folder, *folder.parents))]
    return found


def _quota_of(folder: Path) -> float | None:
    """Processors of a group's own quota; None where it has none that can be read."""
    try:
        if (limit := folder / "cpu.max").is_file():  # version 2: "150000 100000", "max 100000"
            quota, period = limit.read_text("ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text("ascii")
            period = (folder / "cpu.cfs_period_us").read_text("ascii")
        runs, of = float(quota), float(period)
    except (OSError, ValueError):  # a ValueError is "max"
        return None
    return runs / of if runs > 0 and of > 0 else None
