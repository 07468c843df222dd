"""Logits of many rows through an engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from qdeploy.data.batches import Batch, Encoded
from qdeploy.data.tokenize import TextEncoder
from qdeploy.deploy.engine import Engine
from qdeploy.errors import ModelError, VerificationError
from qdeploy.head import Head
from qdeploy.types import Array, Progress

# Tokens of a run at most, and pairs of tokens for attention: what 32 rows of 128 tokens have, and 2
# of 512. Longer rows come in smaller batches, so that memory does not grow with them.
RUN_TOKENS = 4096
RUN_PAIRS = 128 * RUN_TOKENS
MOST_ROWS = RUN_TOKENS  # of a run, whatever was asked for: a row has a token at least


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
    for batch in bounded_batches(encoder, encoded, batch_size):
        found.append((batch.index, engine.run(batch.feeds)["logits"]))
        done += len(batch.index)
        if progress:
            progress(stage, done, len(encoded))
    logits = np.empty((len(encoded), found[0][1].shape[-1]), np.float32)
    for index, values in found:
        logits[index] = values
    check_finite(list(logits))
    return logits


def predict_values(
    engine: Engine,
    encoder: TextEncoder,
    encoded: Encoded,
    *,
    head: Head,
    batch_size: int = 8,
    progress: Progress | None = None,
    stage: str = "accuracy",
) -> dict[str, Array]:
    """What every row is answered, in row order and without padding, for a comparison.

    Args:
        head: whose answers are of rows, [B, …], or of tokens, [B, S, …], of which the row's own
            count.

    Returns:
        By name, float32 [N, …]; of tokens [tokens of all rows, …].

    Raises:
        VerificationError: a value is not finite.
    """
    found = {name: [np.empty(0, np.float32)] * len(encoded) for name in head.answers}
    done = 0
    for batch in bounded_batches(encoder, encoded, batch_size):
        outputs = engine.run(batch.feeds)
        for at, row in enumerate(batch.index):
            # None makes an axis, [1, …]
            own = None if head.of_rows else batch.feeds["attention_mask"][at] == 1
            for name, rows in found.items():
                rows[row] = outputs[name][at][own].astype(np.float32)
        done += len(batch.index)
        if progress:
            progress(stage, done, len(encoded))
    for rows in found.values():
        check_finite(rows)
    return {name: np.concatenate(rows) for name, rows in found.items()}


def bounded_batches(encoder: TextEncoder, encoded: Encoded, batch_size: int) -> Iterator[Batch]:
    """Batches of similar length, of fewer rows than asked for where these are long."""
    return encoder.batches(encoded, batch_size, max_tokens=RUN_TOKENS, max_pairs=RUN_PAIRS)


def check_finite(rows: Sequence[Array]) -> None:
    """Refuse outputs that no class can be named from.

    Raises:
        VerificationError: a value is not finite.
    """
    bad = [at for at, values in enumerate(rows) if not np.isfinite(values).all()]
    if bad:
        raise VerificationError(
            f"The engine gives logits that are not finite for {len(bad)} of {len(rows)} rows "
            f"(first: row {bad[0] + 1}, {rows[bad[0]][:8].tolist()}). The engine is broken: build "
            "it again, with other options if that repeats."
        )
