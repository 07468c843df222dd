"""The provider: a plugin, which ONNX Runtime loads from a package of its own."""

from __future__ import annotations

import importlib
import re
from functools import cache

import onnxruntime as ort

from qdeploy.deploy.cuda import device
from qdeploy.deploy.health import rtx_provider_package
from qdeploy.errors import TargetError, genuine
from qdeploy.graph.session import reason_of
from qdeploy.machine.remedies import upgrade_command

PROVIDER = "NvTensorRTRTXExecutionProvider"
PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
# What it takes of the devices that TensorRT-RTX compiles for: no Turing (7.5) and no A100 (8.0).
CAPABILITIES = ("8.6", "8.9", "12.0", "12.1")
_STATUS = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_OF_DRIVER = ("libcuda.so", "libnvidia-ml.so")


def provider_device() -> ort.OrtEpDevice:
    """The first GPU that the provider takes.

    Raises:
        TargetError: the plugin is missing or does not load, or it takes no GPU that is here.
    """
    register()
    found = [one for one in ort.get_ep_devices() if one.ep_name == PROVIDER]
    if not found:
        raise TargetError(
            f"{PROVIDER} takes no GPU of this machine{_here()}. It takes those of compute "
            f"capability {', '.join(CAPABILITIES)}."
        )
    return found[0]  # it takes one device a session


@cache  # ONNX Runtime loads a plugin once in a process
def register() -> None:
    """Load the plugin into this process.

    Raises:
        TargetError: it is not installed, or does not load here, with the reason.
    """
    if not hasattr(ort, "register_execution_provider_library"):
        raise TargetError(
            f"onnxruntime {ort.__version__} takes no plugin providers, and 1.24 does. Type: "
            f"{upgrade_command('onnxruntime')}"
        )
    try:
        package = importlib.import_module(PACKAGE)  # it loads the libraries beside it
    except Exception as error:  # a missing library is an OSError
        text = f"{PACKAGE} cannot be imported: {error}. {rtx_provider_package()}"
        raise TargetError(text) from None
    library = genuine(package, "get_library_path", "NVIDIA's", rtx_provider_package())
    try:
        ort.register_execution_provider_library(PROVIDER, library.get_library_path())
    except Exception as error:  # onnxruntime raises classes of its own
        reason = _STATUS.sub("", reason_of(error)).rstrip(".")
        if "already registered" in reason:  # by whoever else runs in this process
            return
        of_driver = any(name in reason for name in _OF_DRIVER)
        more = " That library comes with the NVIDIA driver, which is not here." * of_driver
        raise TargetError(f"ONNX Runtime does not load {PROVIDER}: {reason}.{more}") from None


def _here() -> str:
    """Name and compute capability of the first GPU, for a text; nothing where there is none."""
    try:
        found = device()
    except TargetError:
        return ""
    return f" ({found['name']}, {found['compute_capability']})"
