"""Nobody calls home: packages that report their use to their makers are asked not to.

They read these variables when they are imported, so that they are set when qdeploy is. A variable
that is set already stays as it is. What each one does was looked up in the package:

    ORT_DISABLE_TELEMETRY        onnxruntime: from 1.31 on Linux it starts Microsoft's telemetry in
                                 every process, with a device id below the home directory
    HF_HUB_DISABLE_TELEMETRY     huggingface_hub, and with it transformers, datasets and peft
    RAY_USAGE_STATS_ENABLED      ray: reports clusters that it starts

OpenVINO has no variable: `import openvino` sends an event to Google through the package
openvino_telemetry, in a process that it forks. It does without that package where there is none
(`without_openvino_reports`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

VARIABLES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


# Where `opt_in_out --opt_in` and `--opt_out` of openvino_telemetry keep what the user decided.
_CONSENT = Path("intel", "openvino_telemetry")
_REPORTER = "openvino_telemetry"
_importing = threading.RLock()


@contextlib.contextmanager
def without_openvino_reports() -> Iterator[None]:
    """Import openvino within: it then finds no package to report with.

    Where the user decided for or against reports, with OpenVINO's own `opt_in_out`, that holds.
    """
    decided = any((home / _CONSENT).exists() for home in _homes())
    with _importing:
        if decided or _REPORTER in sys.modules:
            yield
            return
        sys.modules[_REPORTER] = None  # type: ignore[assignment]  # "cannot be imported" to Python
        try:
            yield
        finally:
            del sys.modules[_REPORTER]


def _homes() -> list[Path]:
    try:
        return [Path.home()]
    except RuntimeError:  # no home directory
        return []


def turn_off() -> None:
    """Set what is not set."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
