"""Tokens and outputs of the rows that stand in canary.json, against those of here."""

from __future__ import annotations

import math
from pathlib import Path

from qdeploy.calibrate.canary_rows import tokens_of
from qdeploy.data.tokenize import TextEncoder
from qdeploy.deploy.canary import CANARY, Agreement, read_canary, run_canary
from qdeploy.deploy.engine import Engine
from qdeploy.errors import DataError, ModelError
from qdeploy.figures import counted, decibels, logit_difference
from qdeploy.files.artifact import read_manifest
from qdeploy.head import head_of
from qdeploy.names import few
from qdeploy.schemas.canary import Canary, CanaryText
from qdeploy.schemas.verification import Check, Numbers, State

_SHOWN = 4  # rows that are named
_NONE = (
    f"no {CANARY}: a dry run, no machine at hand that runs it, or outputs that were not finite. "
    "Build the engine again on a machine that runs it"
)


def tokenizer_check(directory: Path) -> Check:
    """Whether the tokenizer gives the tokens of the build."""
    if not (directory / CANARY).is_file():
        return _tokenizer("not checked", _NONE)
    try:
        texts = read_canary(directory)["texts"]
        encoder = TextEncoder.from_directory(directory)
        others = [text for text in texts if _tokens(encoder, text) != text["input_ids"]]
    except ModelError as error:
        return _tokenizer("failed", str(error).rstrip("."))
    count = counted(len(texts), "text")
    if others:
        first = others[0]["first"]
        return _tokenizer("failed", f"other tokens for {len(others)} of {count} (first: '{first}')")
    return _tokenizer("ok", f"the tokens of the build for {count}")


def _tokenizer(state: State, text: str) -> Check:
    return {"name": "tokenizer", "state": state, "text": text}


def _tokens(encoder: TextEncoder, text: CanaryText) -> list[int]:
    try:
        return tokens_of(encoder, text)
    except DataError:  # a token that the model does not embed
        return []


def numbers_check(directory: Path, engine: Engine) -> tuple[Check, Numbers | None]:
    """Whether the canary rows have the outputs of the build, within its tolerance.

    Raises:
        ModelError: canary.json is damaged, or does not fit the engine.
    """
    if not (directory / CANARY).is_file():
        return {"name": "numbers", "state": "not checked", "text": _NONE}, None
    canary = read_canary(directory)
    head = head_of(directory, read_manifest(directory, "engine"))
    try:
        found = run_canary(engine, canary, head)
    except (KeyError, ValueError) as error:  # outputs of another graph
        raise ModelError(
            f"{directory / CANARY} does not fit the engine: {error}. Build the engine again."
        ) from error
    bounds = canary["tolerance"]
    beyond = [at for at, diff in enumerate(found.row_diffs) if diff > bounds["max_abs_diff"]]
    failed = bool(beyond) or found.sqnr_db < bounds["sqnr_db"]
    numbers: Numbers = {
        "rows": len(found.row_diffs),
        "equal_rows": found.equal,
        "sqnr_db": round(found.sqnr_db, 2) if math.isfinite(found.sqnr_db) else None,
        "least_sqnr_db": bounds["sqnr_db"],
        "row_diffs": [_shown(diff) for diff in found.row_diffs],
        "most_abs_diff": bounds["max_abs_diff"],
    }
    text = _text(found, canary, beyond)
    return {"name": "numbers", "state": "failed" if failed else "ok", "text": text}, numbers


def _shown(diff: float) -> float | None:
    return float(f"{diff:.4g}") if math.isfinite(diff) else None


def _text(found: Agreement, canary: Canary, beyond: list[int]) -> str:
    rows, bounds = len(found.row_diffs), canary["tolerance"]
    if found.equal == rows:
        return f"the outputs of the build for {counted(rows, 'row')}, to the bit"
    if not math.isfinite(found.sqnr_db):
        return f"outputs that are not finite, on {counted(rows, 'row')}"
    text = (
        f"{decibels(found.sqnr_db)} dB to the outputs of the build on {counted(rows, 'row')} "
        f"({decibels(bounds['sqnr_db'])} at least), largest difference "
        f"{logit_difference(max(found.row_diffs))} "
        f"({logit_difference(bounds['max_abs_diff'])} at most), {found.equal} equal to the bit"
    )
    if beyond:
        text += f"; beyond it: row {few([str(at + 1) for at in beyond], _SHOWN)}"
    return text
