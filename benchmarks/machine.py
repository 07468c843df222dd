"""What the results say about the machine."""

from __future__ import annotations

import platform
from pathlib import Path


def processor() -> str:
    """Model name of the processor where Linux tells it, and its integer instructions."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.machine()
    name = next((x.split(":")[1].strip() for x in text.splitlines() if "model name" in x), "")
    units = [unit for unit in ("avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16") if unit in text]
    return f"{name} ({', '.join(units)})"
