"""What in a checkpoint's head is not as it looks, said once when an engine is loaded."""

from __future__ import annotations

import warnings

from qdeploy.errors import QDeployWarning
from qdeploy.head import FUNCTIONS, SEQUENCES, Head


def warn_of_head(head: Head, named: tuple[str, ...]) -> None:
    """Say what in the checkpoint is not as it looks; `named` are its class names as they stand."""
    if named != head.labels:
        warnings.warn(
            f"Classes of one name: {', '.join(named)}. They are called "
            f"{', '.join(head.labels)} here; set id2label in the checkpoint's config.json.",
            QDeployWarning,
            stacklevel=4,
        )
    asked = head.function_to_apply
    if asked is None or head.task != SEQUENCES or head.activation is not None:
        return
    applied = head.score_function()
    if asked != applied:
        other = f" Pass function_to_apply='{asked}' to predict() for that."
        warnings.warn(
            f"config.json says function_to_apply: {asked}, which transformers' pipeline does "
            f"not read for this head (a {head.description}): scores are made with "
            f"'{applied}', as there.{other if asked in FUNCTIONS else ''}",
            QDeployWarning,
            stacklevel=4,
        )
