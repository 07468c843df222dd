"""Which targets work on this machine, found out by trying, and the remedy for the others."""

from __future__ import annotations

import platform
from importlib import metadata

from qdeploy.deploy.cuda import device
from qdeploy.deploy.doctor_cpu import cpu_features
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import TargetError
from qdeploy.files.artifact import package_versions
from qdeploy.machine.free_memory import memory
from qdeploy.machine.remedies import uninstall_command
from qdeploy.schemas.doctor import FoundGpu, MachineReport, NoGpu


def diagnose() -> MachineReport:
    """Try every target that this version has.

    Returns:
        `targets` (name → works, detail, remedy), `cpu` (feature → yes or no), `memory_mb` (total,
        usable), `gpu` (what it is, or why there is none), `python`, `versions` of the packages and
        `notes` about installations that break others.
    """
    return {
        "targets": {name: target.diagnose().to_json() for name, target in TARGETS.items()},
        "cpu": cpu_features(),
        "memory_mb": memory(),
        "gpu": gpu(),
        "python": platform.python_version(),
        "versions": package_versions(),
        "notes": _notes(),
    }


def gpu() -> FoundGpu | NoGpu:
    """{"found": True} and what `qdeploy.deploy.cuda.device` tells, or False and the reason."""
    try:
        return {"found": True, **device()}
    except TargetError as error:
        return {"found": False, "reason": str(error)}


def _notes() -> list[str]:
    """Installed packages that are known to break others."""
    notes = []
    if _installed("onnxruntime-tools"):
        notes.append(
            "onnxruntime-tools is installed. It is dead and breaks onnxruntime.quantization and "
            f"onnxruntime.transformers. Type: {uninstall_command('onnxruntime-tools')}"
        )
    if _installed("onnxruntime") and _installed("onnxruntime-gpu"):
        notes.append(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files. "
            "Uninstall both, then install one."
        )
    return notes


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
