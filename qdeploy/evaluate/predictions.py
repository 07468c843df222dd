"""Predictions on disk, so that many engines can be compared with one baseline that ran once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from qdeploy.errors import ModelError
from qdeploy.evaluate.accuracy import Judged
from qdeploy.evaluate.labels import ClassOrder


def save_predictions(judged: Judged, path: Path) -> None:
    """Write one .npz: logits FP32 [N, classes], gold int64 [N], and the class order."""
    order = {"names": list(judged.order.names), "origin": judged.order.origin}
    about = order | {"max_length": judged.max_length, "truncated": judged.truncated}
    with path.open("wb") as stream:
        np.savez_compressed(
            stream, logits=judged.logits, gold=judged.gold, about=np.array(json.dumps(about))
        )


def load_predictions(path: Path) -> Judged:
    """Read what `save_predictions` wrote.

    Raises:
        ModelError: no such file, or another kind of file.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            about = json.loads(str(found["about"]))
            order = ClassOrder(tuple(about["names"]), about["origin"])
            return Judged(
                order, found["logits"], found["gold"], about["max_length"], about["truncated"]
            )
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(f"{path} holds no predictions ({error}). Run the sweep again.") from error
