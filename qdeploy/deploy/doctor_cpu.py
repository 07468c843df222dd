"""The CPU and the memory of this machine, as far as this process may use them."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from qdeploy.machine.threads import usable_cores

# Flags of /proc/cpuinfo that decide how fast INT8 GEMMs run on x86.
CPU_FLAGS = {
    "AVX512-VNNI": "avx512_vnni",
    "AVX-VNNI": "avx_vnni",
    "AMX-INT8": "amx_int8",
    "AMX-BF16": "amx_bf16",
}
_MB = 1e6
# Limit and use of the control group (cgroup v2, then v1) as a container sees them, bytes.
_GROUPS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """Model, usable cores, and the INT8 instructions of the CPU (None where nobody can tell)."""
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return {
            "model": platform.processor() or platform.machine(),
            "cores": usable_cores(),
        } | dict.fromkeys(CPU_FLAGS)
    fields = {key.strip(): value.strip() for key, _, value in (ln.partition(":") for ln in lines)}
    flags = set(fields.get("flags", "").split())
    known = {name: flag in flags if flags else None for name, flag in CPU_FLAGS.items()}
    model = fields.get("model name") or platform.machine()
    return {"model": model, "cores": usable_cores(), **known}


def memory(
    meminfo: Path = Path("/proc/meminfo"), groups: Path = Path("/sys/fs/cgroup")
) -> dict[str, float | None]:
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
