"""Rows with the outputs that an engine gave where it was built: canary.json.

A machine that serves runs them again. Its numbers need not be equal: sums of FP32 in another order
differ in the seventh digit, and of a quantized engine such a difference moves codes by a step in
every layer, up to the noise that quantization makes anyway (docs/adr/0040). So the tolerance comes
from that noise, as it was measured on the same rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qdeploy.calibrate.batches import Sample
from qdeploy.deploy.logit_noise import Outputs, Runs, difference, kept, outputs_of, own_tokens
from qdeploy.files.artifact import read_json, write_bytes
from qdeploy.head import Head
from qdeploy.schemas.canary import Canary, CanaryBatch, CanaryText, Tolerance, require_possible
from qdeploy.schemas.checked import checked
from qdeploy.sqnr import logit_sqnr_db
from qdeploy.text import json_text
from qdeploy.types import Array

Tables = Mapping[str, Sequence[Sequence[float]]]

CANARY = "canary.json"
_AGAIN = "Build the engine again."
# Two machines are two draws of the noise: their difference has twice its power (3 dB) where they
# share nothing. Another 3 dB are for 16 rows, which know a level to about 1.5 dB.
_DRAWS_DB = 6.0
_TIMES = 3.0  # the largest difference of a value, over that to FP32, likewise
# Outputs of two models that share nothing have an SQNR below this; and equal FP32 graphs agree to
# far more than the other bound.
_LEAST_DB, _MOST_DB = 3.0, 60.0
_DIGITS = 9  # of a number in FP32, which reads back as it was


@dataclass(frozen=True)
class Agreement:
    """Outputs of here against those that are stored.

    Attributes:
        sqnr_db: over all rows; +inf where they are equal, −inf where one is not finite.
        row_diffs: largest difference of an output of each row.
        equal: rows whose outputs are equal to the bit.
    """

    sqnr_db: float
    row_diffs: tuple[float, ...]
    equal: int


def canary_of(
    sample: Sample, texts: list[CanaryText], reference: Outputs, found: Outputs, head: Head
) -> Canary | None:
    """What an engine gave, with the tolerance; None where that is not finite.

    Args:
        sample: the rows.
        reference: outputs of FP32 on them.
        found: those of the engine.
    """
    level = difference(reference, found, sample, head)
    if level.sqnr_db == -math.inf:
        return None
    return {
        "schema": 1,
        "rows": sample.rows,
        "longest": max(next(iter(feeds.values())).shape[1] for feeds in sample.batches),
        "noise": {
            "sqnr_db": round(level.sqnr_db, 2) if math.isfinite(level.sqnr_db) else None,
            "max_abs_diff": float(f"{level.max_abs:.4g}"),
        },
        "tolerance": _tolerance(level.sqnr_db, level.max_abs, found, sample, head),
        "texts": texts,
        "batches": [
            _batch(feeds, outputs, head)
            for feeds, outputs in zip(sample.batches, found, strict=True)
        ],
    }


def _tolerance(
    level: float, largest: float, found: Outputs, sample: Sample, head: Head
) -> Tolerance:
    tables = [
        kept(outputs[name], own_tokens(feeds), head)
        for feeds, outputs in zip(sample.batches, found, strict=True)
        for name in head.answers
    ]
    size = max(float(np.abs(table).max(initial=0.0)) for table in tables)
    bound = min(max(level - _DRAWS_DB, _LEAST_DB), _MOST_DB)
    rounding = size * 10 ** (-_MOST_DB / 20)
    return {
        "sqnr_db": round(bound, 2),
        "max_abs_diff": float(f"{max(_TIMES * largest, rounding):.4g}"),
    }


def _batch(feeds: Mapping[str, Array], outputs: Mapping[str, Array], head: Head) -> CanaryBatch:
    own = own_tokens(feeds)
    tables = {name: kept(outputs[name], own, head) for name in head.answers}
    return {
        "inputs": {name: values.tolist() for name, values in feeds.items()},
        "outputs": {name: _numbers(values) for name, values in tables.items()},
    }


def _numbers(values: Array) -> list[list[float]]:
    """[rows or tokens, values], each as the shortest text that FP32 reads back."""
    table = values.reshape(len(values), -1).tolist()
    return [[float(f"{value:.{_DIGITS}g}") for value in row] for row in table]


def write_canary(directory: Path, canary: Canary) -> None:
    """Write canary.json; a row of a table is a line."""
    head = {name: value for name, value in canary.items() if name != "batches"}
    text = json.dumps(head, indent=2, sort_keys=True, ensure_ascii=False).removesuffix("\n}")
    batches = ",\n".join(_lines(batch) for batch in canary["batches"])
    write_bytes(
        directory / CANARY, json_text(f'{text},\n  "batches": [\n{batches}\n  ]\n}}\n').encode()
    )


def _lines(batch: CanaryBatch) -> str:
    parts = []
    both: dict[str, Tables] = {"inputs": batch["inputs"], "outputs": batch["outputs"]}
    for key, tables in both.items():
        named = []
        for name, table in sorted(tables.items()):
            rows = ",\n".join(f"          {json.dumps(row)}" for row in table)
            named.append(f"        {json.dumps(name)}: [\n{rows}\n        ]")
        parts.append(f'      "{key}": {{\n' + ",\n".join(named) + "\n      }")
    return "    {\n" + ",\n".join(parts) + "\n    }"


def read_canary(directory: Path) -> Canary:
    """The canary of an engine directory.

    Raises:
        ModelError: it is missing or damaged.
    """
    path = directory / CANARY
    return checked(read_json(path, _AGAIN), Canary, path, _AGAIN, require_possible)


def run_canary(engine: Runs, canary: Canary, head: Head) -> Agreement:
    """Run the rows again, and hold the outputs against those that are stored.

    Raises:
        KeyError: an output has another name, or is not there.
        ValueError: outputs of another shape.
    """
    batches = tuple(
        {name: np.array(table, np.int64) for name, table in batch["inputs"].items()}
        for batch in canary["batches"]
    )
    outputs = outputs_of(engine, Sample(CANARY, canary["rows"], batches))
    tables: dict[str, list[tuple[Array, Array]]] = {}
    diffs: list[float] = []
    equal = 0
    for feeds, batch, run in zip(batches, canary["batches"], outputs, strict=True):
        own = own_tokens(feeds)
        rows = np.arange(len(own)) if head.of_rows else np.nonzero(own)[0]
        worst = np.zeros(len(own))
        for name, stored in batch["outputs"].items():
            exact = np.array(stored, np.float32)
            found = kept(run[name], own, head).reshape(len(exact), -1)
            if found.shape != exact.shape:
                raise ValueError(f"{name} has {found.shape[1]} values, not {exact.shape[1]}")
            tables.setdefault(name, []).append((exact, found))
            error = np.abs(exact.astype(np.float64) - found).max(axis=1)
            np.maximum.at(worst, rows, np.where(np.isfinite(error), error, np.inf))
        diffs += worst.tolist()
        equal += int((worst == 0).sum())
    level = logit_sqnr_db(map(_joined, tables.values()), exclusive=head.exclusive)
    return Agreement(level, tuple(diffs), equal)


def _joined(parts: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    return np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts])
