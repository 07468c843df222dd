"""What `doctor` says of a machine."""

from __future__ import annotations

from typing import Literal

from typing_extensions import NotRequired, TypedDict

from qdeploy.schemas.manifest import Device


class TargetHealth(TypedDict):
    """See `qdeploy.deploy.health.Health`."""

    works: bool
    detail: str
    remedy: str
    builds: NotRequired[bool]


# Instructions that decide how fast INT8 GEMMs run on x86: None where nobody can tell.
Cpu = TypedDict(
    "Cpu",
    {
        "model": str,
        "cores": int | None,
        "AVX512-VNNI": bool | None,
        "AVX-VNNI": bool | None,
        "AMX-INT8": bool | None,
        "AMX-BF16": bool | None,
    },
)


class Memory(TypedDict):
    """10⁶ bytes, within the limit of a container; None where nobody can tell."""

    total: float | None
    usable: float | None


class FoundGpu(Device):
    """The first GPU."""

    found: Literal[True]


class NoGpu(TypedDict):
    """Why there is none."""

    found: Literal[False]
    reason: str


class MachineReport(TypedDict):
    """The result of `doctor`: targets by name, versions of the packages that decide a build, and
    notes about installations that break others."""

    targets: dict[str, TargetHealth]
    cpu: Cpu
    memory_mb: Memory
    gpu: FoundGpu | NoGpu
    python: str
    versions: dict[str, str]
    notes: list[str]
