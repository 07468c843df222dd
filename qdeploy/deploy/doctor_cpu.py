"""The CPU of this machine, as far as this process may use it."""

from __future__ import annotations

import platform
from collections.abc import Collection
from pathlib import Path

from qdeploy.machine.processor import fields_of
from qdeploy.machine.threads import usable_cores
from qdeploy.schemas.doctor import Cpu


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> Cpu:
    """Model, usable cores, and the INT8 instructions of the CPU (None where nobody can tell)."""
    fields = fields_of(cpuinfo)
    if fields is None:
        return _features(platform.processor() or platform.machine(), ())
    model = fields.get("model name") or platform.machine()
    return _features(model, fields.get("flags", "").split())


def _features(model: str, flags: Collection[str]) -> Cpu:
    """What the flags of /proc/cpuinfo say; nothing where there are none."""

    def has(flag: str) -> bool | None:
        return flag in flags if flags else None

    return {
        "model": model,
        "cores": usable_cores(),
        "AVX512-VNNI": has("avx512_vnni"),
        "AVX-VNNI": has("avx_vnni"),
        "AMX-INT8": has("amx_int8"),
        "AMX-BF16": has("amx_bf16"),
    }
