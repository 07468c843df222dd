"""What is found out about a target, and what to type where a GPU target is missing."""

from __future__ import annotations

from dataclasses import dataclass

GPU_PACKAGE = (
    "Type: pip uninstall onnxruntime && pip install 'qdeploy[gpu]' on a machine with an NVIDIA GPU"
)
BOTH_PACKAGES = (
    "Type: pip install 'qdeploy[gpu,tensorrt]' 'tensorrt<11' on a machine with an NVIDIA GPU"
)
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
    """

    works: bool
    detail: str
    remedy: str = ""
