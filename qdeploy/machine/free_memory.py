"""How much memory there is, and how much of it a process may still take."""

from __future__ import annotations

from pathlib import Path

from qdeploy.schemas.doctor import Memory

_MB = 1e6
# Limit and use of the control group (cgroup v2, then v1) as a container sees them, bytes.
_GROUPS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def memory(meminfo: Path = Path("/proc/meminfo"), groups: Path = Path("/sys/fs/cgroup")) -> Memory:
    """Memory in MB of 10⁶ bytes: `total` and `usable`, within the limit of a container.

    Returns:
        Both None where nobody can tell (not Linux).
    """
    try:
        lines = meminfo.read_text("utf-8").splitlines()
        sizes = {name: int(text.split()[0]) * 1024 for name, _, text in map(_halves, lines)}
        total, usable = sizes["MemTotal"], sizes["MemAvailable"]
    except (OSError, ValueError, KeyError, IndexError):
        return {"total": None, "usable": None}
    for names in _GROUPS:
        limit, used = (_number(groups / name) for name in names)
        if limit is not None and limit < total:
            total, usable = limit, min(usable, max(limit - (used or 0), 0))
    return {"total": round(total / _MB, 1), "usable": round(usable / _MB, 1)}


def _halves(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none (`max` is no limit)."""
    try:
        return int(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
