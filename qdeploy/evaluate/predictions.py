"""Predictions on disk, so that many engines can be compared with one baseline that ran once."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from qdeploy.artifact import write_bytes
from qdeploy.data.lengths import RowLengths
from qdeploy.errors import ModelError
from qdeploy.evaluate.accuracy import Judged
from qdeploy.evaluate.labels import ClassOrder

# What numpy, zipfile and zlib raise on a file that is cut, changed or something else.
_DAMAGE = (
    *(AttributeError, EOFError, KeyError, NotImplementedError, OSError, RuntimeError, TypeError),
    *(ValueError, zipfile.BadZipFile, zlib.error),
)


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
        ModelError: no such file, or another kind of file.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            about = json.loads(str(found["about"]))
            order = ClassOrder(tuple(about["names"]), about["origin"])
            kept, truncated, limit = (about["lengths"][f.name] for f in fields(RowLengths))
            lengths = RowLengths(tuple(kept), truncated, limit)
            gold = found["gold"] if len(found["gold"]) else None
            return Judged(order, found["logits"], gold, lengths, about["form"])
    except _DAMAGE as error:
        raise ModelError(f"{path} holds no predictions ({error}). Run the sweep again.") from error
