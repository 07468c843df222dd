"""Predictions on disk, so that many engines can be compared with one baseline that ran once."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np

from qdeploy.data.lengths import RowLengths
from qdeploy.errors import ModelError
from qdeploy.evaluate.accuracy import Compared, Judged
from qdeploy.evaluate.labels import ClassOrder
from qdeploy.files.artifact import write_bytes
from qdeploy.files.damage import DAMAGE
from qdeploy.head import Head
from qdeploy.schemas.fields import Count


class _Lengths(msgspec.Struct):
    kept: list[Count]
    truncated: Count
    max_length: Count


class _OfOutputs(msgspec.Struct):
    rows: Count
    lengths: _Lengths


class _About(msgspec.Struct):
    names: list[str]
    origin: str
    lengths: _Lengths
    form: str | None


def save_predictions(judged: Judged, path: Path) -> None:
    """Write one .npz, whole or not at all: logits FP32 [N, classes], gold int64 [N] (empty without
    labels), the class order and the rows' lengths."""
    order = {"names": list(judged.order.names), "origin": judged.order.origin}
    about = order | {"lengths": asdict(judged.lengths), "form": judged.form}
    gold = np.empty(0, np.int64) if judged.gold is None else judged.gold
    stream = io.BytesIO()
    np.savez_compressed(stream, logits=judged.logits, gold=gold, about=np.array(json.dumps(about)))
    write_bytes(path, stream.getvalue())


def load_predictions(path: Path) -> Judged:
    """Read what `save_predictions` wrote.

    Raises:
        ModelError: no such file, another kind of file, or arrays that do not belong together.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            about = msgspec.json.decode(str(found["about"]), type=_About)
            logits, gold = found["logits"], found["gold"] if len(found["gold"]) else None
        said = about.lengths
        lengths = RowLengths(tuple(said.kept), said.truncated, said.max_length)
        judged = Judged(
            ClassOrder(tuple(about.names), about.origin), logits, gold, lengths, about.form
        )
        _check(judged)
        return judged
    except DAMAGE as error:
        raise ModelError(f"{path} holds no predictions ({error}). Run the sweep again.") from error


def save_outputs(found: Compared, rows: int, path: Path) -> None:
    """Write one .npz, whole or not at all, of heads that choose no class: each output by name, FP32
    [rows or tokens, …], and the rows' lengths.

    Args:
        found: the outputs.
        rows: how many they are of; an embedding model runs each text of a pair by itself.
    """
    about = json.dumps({"rows": rows, "lengths": asdict(found.lengths)})
    named = {f"output {name}": values for name, values in found.values.items()}
    stream = io.BytesIO()
    np.savez_compressed(stream, about=np.array(about), **named)  # type: ignore[arg-type]
    write_bytes(path, stream.getvalue())


def load_outputs(path: Path, head: Head) -> Compared:
    """Read what `save_outputs` wrote.

    Args:
        head: what the outputs mean.

    Raises:
        ModelError: no such file, another kind of file, or not the outputs of the head.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            said = msgspec.json.decode(str(found["about"]), type=_OfOutputs).lengths
            values = {name: found[f"output {name}"] for name in head.answers}
        wrong = [name for name, array in values.items() if array.dtype != np.float32]
        if wrong:
            raise ValueError(f"{wrong[0]} is {values[wrong[0]].dtype}")
        return Compared(values, RowLengths(tuple(said.kept), said.truncated, said.max_length), head)
    except DAMAGE as error:
        raise ModelError(f"{path} holds no outputs ({error}). Run the sweep again.") from error


def rows_predicted(path: Path) -> int:
    """How many rows a file of either kind is of.

    Raises:
        ModelError: see `load_predictions`.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            if "gold" not in found:
                for name in found.files:
                    found[name]  # each has its checksum
                return msgspec.json.decode(str(found["about"]), type=_OfOutputs).rows
    except DAMAGE as error:
        raise ModelError(f"{path} holds no outputs ({error}). Run the sweep again.") from error
    return len(load_predictions(path).logits)


def _check(judged: Judged) -> None:
    """Raises ValueError where arrays have other types or shapes than `save_predictions` gives."""
    logits, gold, classes = judged.logits, judged.gold, len(judged.order.names)
    if logits.dtype != np.float32 or logits.ndim != 2 or logits.shape[1] != classes:
        raise ValueError(f"logits {logits.dtype} {list(logits.shape)} of {classes} classes")
    if gold is None:
        return
    if gold.dtype != np.int64 or gold.shape != logits.shape[:1]:
        raise ValueError(f"labels {gold.dtype} {list(gold.shape)} of {len(logits)} rows")
    if not ((gold >= 0) & (gold < classes)).all():
        raise ValueError(f"labels that are none of {classes} classes")
