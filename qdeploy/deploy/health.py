"""What is found out about a target, and what to type where a GPU target is missing."""

from __future__ import annotations

from dataclasses import dataclass

from qdeploy.machine.remedies import install_command, uninstall_command
from qdeploy.schemas.doctor import TargetHealth

_WHERE = " # on a machine with an NVIDIA GPU"  # a comment of the shell: all of it can be pasted
ELSEWHERE = (
    "`build --dry-run` writes the ONNX file here, to be built where a GPU is; `eval --simulate` "
    "measures its accuracy."
)


@dataclass(frozen=True)
class Health:
    """What was found out about one target.

    Attributes:
        works: an engine of this target runs here, in INT8.
        detail: the versions that work, or the reason that it does not.
        remedy: what to type; empty when it works.
        builds: of targets that compile without a device, whether that works here.
    """

    works: bool
    detail: str
    remedy: str = ""
    builds: bool | None = None

    def to_json(self) -> TargetHealth:
        """For the report of `doctor`."""
        found: TargetHealth = {"works": self.works, "detail": self.detail, "remedy": self.remedy}
        return found if self.builds is None else {**found, "builds": self.builds}


def gpu_package() -> str:
    """What to type for ONNX Runtime on a GPU: its package and that for CPUs share their files."""
    remove, install = uninstall_command("onnxruntime"), install_command("gpu")
    return f"Type: {remove} && {install}{_WHERE}"


def both_packages() -> str:
    """What to type for ONNX Runtime's TensorRT provider, which links TensorRT 10."""
    return f"Type: {install_command('gpu', 'tensorrt', packages=('tensorrt<11',))}{_WHERE}"


def tensorrt_package() -> str:
    """What to type for TensorRT."""
    return f"Type: {install_command('tensorrt')}{_WHERE}"


def rtx_package() -> str:
    """What to type for TensorRT-RTX, which builds engines on machines without a GPU too."""
    return f"Type: {install_command('tensorrt-rtx')}"


def rtx_provider_package() -> str:
    """What to type for ONNX Runtime's TensorRT-RTX provider, and what builds engines for it."""
    return f"Type: {install_command('ort-tensorrt-rtx')}"
