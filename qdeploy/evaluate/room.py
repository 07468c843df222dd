"""Whether the memory of this machine holds a run of so many rows and tokens."""

from __future__ import annotations

from collections.abc import Mapping

from qdeploy.errors import PlanError
from qdeploy.machine.free_memory import memory

_FP32, _INT64 = 4, 8  # bytes
_STREAMS = 3  # values of the hidden size that a layer holds at once: input, residual, output
_INPUTS = 3  # ids, mask, types


def check_room(
    config: Mapping[str, object], batch_size: int, seq_len: int, free: int | None = None
) -> None:
    """Refuse a run whose activations alone are more than there is memory, before it is killed.

    Args:
        config: config.json of the engine.
        batch_size, seq_len: rows and tokens of the run.
        free: bytes; None asks the system.

    Raises:
        PlanError: with the most rows that would do.
    """
    if free is None:
        usable = memory()["usable"]
        free = None if usable is None else int(usable * 1e6)
    row = bytes_of_a_row(config, seq_len)
    if free is None or row * batch_size <= free:
        return
    raise PlanError(
        f"--batch-size {batch_size} needs {row * batch_size / 1e9:.1f} GB for rows of {seq_len} "
        f"tokens in one layer alone, and {free / 1e9:.1f} GB of memory are free here. Give "
        f"--batch-size {max(1, free // (2 * row))} or less, or a shorter --seq-len."
    )


def bytes_of_a_row(config: Mapping[str, object], seq_len: int) -> int:
    """What a row takes in one layer at least, in FP32; 0 beside its inputs of an unknown config."""

    def named(*names: str) -> int:
        found = (config.get(name) for name in names)
        return next((value for value in found if isinstance(value, int)), 0)

    hidden = named("hidden_size", "dim", "d_model")
    inner = named("intermediate_size", "hidden_dim") or 4 * hidden
    scores = named("num_attention_heads", "n_heads") * seq_len
    return seq_len * (_FP32 * (_STREAMS * hidden + inner + scores) + _INPUTS * _INT64)
