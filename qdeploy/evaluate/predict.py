"""Logits of many rows through an engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from qdeploy.data.tokenize import Encoded, TextEncoder
from qdeploy.deploy.engine import Engine
from qdeploy.errors import ModelError, VerificationError

Array = npt.NDArray[Any]
Progress = Callable[[str, int, int], None]


def predict_logits(
    engine: Engine,
    encoder: TextEncoder,
    encoded: Encoded,
    *,
    batch_size: int = 8,
    progress: Progress | None = None,
    stage: str = "accuracy",
) -> Array:
    """Run every row, in batches of similar length, and bring the logits back in row order.

    Returns:
        float32 [N, classes].

    Raises:
        ModelError: the engine has no output `logits`.
        VerificationError: a logit is not finite, so that no class can be named.
    """
    if "logits" not in engine.output_names:
        raise ModelError(
            f"The engine gives {', '.join(engine.output_names)}, and 'logits' was expected."
        )
    found: list[tuple[Array, Array]] = []
    done = 0
    for batch in encoder.batches(encoded, batch_size):
        found.append((batch.index, engine.run(batch.feeds)["logits"]))
        done += len(batch.index)
        if progress:
            progress(stage, done, len(encoded))
    logits = np.empty((len(encoded), found[0][1].shape[-1]), np.float32)
    for index, values in found:
        logits[index] = values
    _check_finite(logits)
    return logits


def _check_finite(logits: Array) -> None:
    bad = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(bad):
        raise VerificationError(
            f"The engine gives logits that are not finite for {len(bad)} of {len(logits)} rows "
            f"(first: row {bad[0] + 1}, {logits[bad[0]].tolist()}). The engine is broken: build "
            "it again, with other options if that repeats."
        )
