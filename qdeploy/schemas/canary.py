"""canary.json: rows with the outputs that an engine gave where it was built."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import NotRequired, TypedDict

from qdeploy.schemas.fields import Count, Positive, Token


class CanaryText(TypedDict):
    """A text, or a pair of texts, and its tokens as inputs of the model."""

    first: str
    second: NotRequired[str | None]
    input_ids: list[Token]


class CanaryBatch(TypedDict):
    """A run: inputs [B, S] by name, and outputs by name.

    Outputs are [B, values] of a head that answers rows. Of one that answers tokens they are
    [tokens, values], those of padding left out.
    """

    inputs: dict[str, list[list[Count]]]
    outputs: dict[str, list[list[float]]]


class CanaryNoise(TypedDict):
    """How far outputs were from FP32's at build; None in dB where they were equal."""

    sqnr_db: float | None
    max_abs_diff: float


class Tolerance(TypedDict):
    """How far outputs may be from those that are stored: at least so many dB, at most so much."""

    sqnr_db: float
    max_abs_diff: float


class Canary(TypedDict):
    """See `qdeploy.deploy.canary`; `rows` and `longest` (tokens) are of all batches."""

    schema: Positive
    rows: Positive
    longest: Positive
    noise: CanaryNoise
    tolerance: Tolerance
    texts: list[CanaryText]
    batches: list[CanaryBatch]


def require_possible(found: Canary) -> None:
    """Refuse what no field alone shows.

    Raises:
        ValueError: rows of a table that differ in length, or a batch without inputs.
    """
    if not found["batches"]:
        raise ValueError("no batches")
    for at, batch in enumerate(found["batches"]):
        tables: dict[str, Sequence[Sequence[float]]] = {**batch["inputs"], **batch["outputs"]}
        for name, table in tables.items():
            if not table or len({len(row) for row in table}) != 1:
                raise ValueError(f"rows of {name} differ in length - at `$.batches[{at}]`")
