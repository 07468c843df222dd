"""The targets that there are. A new one is a folder beside this file, and a line here."""

from __future__ import annotations

from qdeploy.deploy.targets.base import Target
from qdeploy.deploy.targets.openvino.target import OpenVino
from qdeploy.deploy.targets.ort_cpu.target import OrtCpu
from qdeploy.deploy.targets.ort_cuda.target import OrtCuda
from qdeploy.deploy.targets.ort_tensorrt.target import OrtTensorRt
from qdeploy.deploy.targets.ort_tensorrt_rtx.target import OrtTensorRtRtx
from qdeploy.deploy.targets.tensorrt.target import TensorRt
from qdeploy.deploy.targets.tensorrt_rtx.target import TensorRtRtx
from qdeploy.errors import TargetError, choose

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        *(OrtCpu(), OpenVino(), OrtCuda(), OrtTensorRt(), OrtTensorRtRtx()),
        *(TensorRt(), TensorRtRtx()),
    )
}
REST_PRECISIONS = tuple(dict.fromkeys(p for t in TARGETS.values() for p in t.rest_precisions))
TARGET_NAMES = (*TARGETS, "auto")  # what may be typed; auto is in `qdeploy.autotune.target`


def find_target(name: str) -> Target:
    """The target of a name.

    Raises:
        TargetError: unknown, with the nearest name, or not one target.
    """
    if choose("target", name, TARGET_NAMES, TargetError) not in TARGETS:
        raise TargetError(f"'{name}' is no single target. Choose one of: {', '.join(TARGETS)}.")
    return TARGETS[name]
