"""Nobody calls home: packages that report their use to their makers are asked not to.

They read these variables when they are imported, so that they are set when qdeploy is. A variable
that is set already stays as it is. What each one does was looked up in the package:

    ORT_DISABLE_TELEMETRY        onnxruntime: from 1.31 on Linux it starts Microsoft's telemetry in
                                 every process, with a device id below the home directory
    HF_HUB_DISABLE_TELEMETRY     huggingface_hub, and with it transformers, datasets and peft
    RAY_USAGE_STATS_ENABLED      ray: reports clusters that it starts

OpenVINO reports only from its converter `ovc`, which qdeploy does not use.
"""

from __future__ import annotations

import os

VARIABLES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def turn_off() -> None:
    """Set what is not set."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
