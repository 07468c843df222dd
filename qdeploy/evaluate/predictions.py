"""Predictions on disk, so that many engines can be compared with one baseline that ran once."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path

import msgspec
import numpy as np

from qdeploy.data.lengths import RowLengths
from qdeploy.errors import ModelError
from qdeploy.evaluate.accuracy import Judged
from qdeploy.evaluate.labels import ClassOrder
from qdeploy.files.artifact import write_bytes
from qdeploy.schemas.fields import Count

# What numpy, zipfile and zlib raise on a file that is cut, changed or something else.
_DAMAGE = (
    *(AttributeError, EOFError, KeyError, NotImplementedError, OSError, RuntimeError, TypeError),
    *(ValueError, zipfile.BadZipFile, zlib.error),
)


class _Lengths(msgspec.Struct):
    kept: list[Count]
    truncated: Count
    max_length: Count


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
    except _DAMAGE as error:
        raise ModelError(f"{path} holds no predictions ({error}). Run the sweep again.") from error


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
