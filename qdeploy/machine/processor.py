"""Which instructions multiply 8-bit numbers on this processor.

Those of AVX2 and of the first AVX-512 add pairs of products in 16 bits, which saturate
(`qdeploy.calibrate.affine.pair_peak`); VNNI, AMX and ARM's dot products add in 32 bits.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

AVX2: Final = "avx2"
AVX512: Final = "avx512"
AVX_VNNI: Final = "avx_vnni"
AVX512_VNNI: Final = "avx512_vnni"
AMX_INT8: Final = "amx_int8"
ARM: Final = "arm64"
ARM_DOTPROD: Final = "arm64_dotprod"
ARM_I8MM: Final = "arm64_i8mm"
OTHER: Final = "other"
INSTRUCTION_SETS = (
    *(AVX2, AVX512, AVX_VNNI, AVX512_VNNI, AMX_INT8),
    *(ARM, ARM_DOTPROD, ARM_I8MM, OTHER),
)
# They add 8-bit products in 32 bits; what is not known may saturate.
EXACT = (AVX_VNNI, AVX512_VNNI, AMX_INT8, ARM, ARM_DOTPROD, ARM_I8MM)
CALLED = {
    AVX2: "AVX2",
    AVX512: "AVX-512 without VNNI",
    AVX_VNNI: "AVX-VNNI",
    AVX512_VNNI: "AVX512-VNNI",
    AMX_INT8: "AMX-INT8",
    ARM: "ARM without dot products",
    ARM_DOTPROD: "ARM with dot products",
    ARM_I8MM: "ARM with i8mm",
    OTHER: "instructions that are not known here",
}
# Flags of Linux, the best first.
_X86 = {
    "amx_int8": AMX_INT8,
    "avx512_vnni": AVX512_VNNI,
    "avx_vnni": AVX_VNNI,
    "avx512bw": AVX512,
    "avx2": AVX2,
}
_ARM = {"i8mm": ARM_I8MM, "asimddp": ARM_DOTPROD}
_APPLE = {"i8mm": "hw.optional.arm.FEAT_I8MM", "asimddp": "hw.optional.arm.FEAT_DotProd"}
# The same flags as NumPy names them, which asks the processor itself.
_NUMPY = {
    "avx2": "AVX2",
    "avx512bw": "AVX512BW",
    "avx512_vnni": "AVX512VNNI",
    "asimddp": "ASIMDDP",
}


def instruction_set(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The best of `INSTRUCTION_SETS` that this process may use."""
    return best_of(flags_of(cpuinfo), platform.machine())


def best_of(flags: frozenset[str], machine: str) -> str:
    """The best instructions of a processor.

    Args:
        flags: as Linux names them.
        machine: of `platform.machine`.
    """
    if machine.lower() in ("arm64", "aarch64"):
        return next((name for flag, name in _ARM.items() if flag in flags), ARM)
    return next((name for flag, name in _X86.items() if flag in flags), OTHER)


def fields_of(cpuinfo: Path) -> dict[str, str] | None:
    """What Linux says of the last processor; None elsewhere."""
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    pairs = (line.partition(":")[::2] for line in lines)
    return {key.strip(): value.strip() for key, value in pairs}


def flags_of(cpuinfo: Path) -> frozenset[str]:
    """Flags of Linux that the processor really has.

    An emulator shows the flags of the machine that it runs on: where NumPy, which asks the
    processor, knows better, none but those that it confirms count.
    """
    found = fields_of(cpuinfo)
    if found is None:
        return _apples() or frozenset(flag for flag, has in _asked().items() if has)
    shown = frozenset((found.get("flags") or found.get("Features") or "").split())
    asked = _asked()
    if any(flag in shown and not has for flag, has in asked.items()):
        return frozenset(flag for flag, has in asked.items() if has)
    return shown


def _asked() -> Mapping[str, bool]:
    """Of the flags that NumPy knows, whether the processor has them."""
    core = getattr(getattr(np, "_core", None), "_multiarray_umath", None)
    known: Mapping[str, bool] = getattr(core, "__cpu_features__", {})
    return {flag: bool(known[name]) for flag, name in _NUMPY.items() if name in known}


def _apples() -> frozenset[str]:
    """The same flags of a Mac with a processor of Apple."""
    if platform.system() != "Darwin":
        return frozenset()
    command = ["sysctl", "-n", *_APPLE.values()]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return frozenset()
    answers = said.stdout.split()
    if len(answers) != len(_APPLE):
        return frozenset()
    return frozenset(flag for flag, has in zip(_APPLE, answers, strict=True) if has == "1")
