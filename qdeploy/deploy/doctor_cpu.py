"""The CPU of this machine, as far as this process may use it."""

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
