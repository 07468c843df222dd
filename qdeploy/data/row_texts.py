"""How many texts a row of an engine has: one, or the two of a pair; where its build tells."""

from __future__ import annotations

from qdeploy.data.classes import all_generic
from qdeploy.data.infer import fits
from qdeploy.data.mini import NAME as MINI
from qdeploy.data.reading import Reading
from qdeploy.data.tasks import TASKS
from qdeploy.head import EMBEDDINGS, SPANS, TOKENS
from qdeploy.schemas.manifest import EngineFields


def text_columns(manifest: EngineFields) -> tuple[str, ...]:
    """Columns of the texts of a row: one, or the two of a pair; none where nobody knows.

    They are those of the data that the engine was built with. The embedded pairs may stand in
    for them, and are its own only if its classes are QNLI's by name.

    Args:
        manifest: of the engine.
    """
    kept, labels = manifest.get("data"), manifest["labels"]
    if kept is not None and kept["source"] != MINI:
        return Reading.from_json(kept).places.texts
    qnli, calibration = TASKS["qnli"], manifest.get("calibration")
    if kept is None and (calibration is None or calibration["data"] != MINI):
        return ()
    return qnli.columns.texts if fits(qnli, labels) and not all_generic(labels) else ()


def mismatch(expected: tuple[str, ...], given: int) -> str | None:
    """A warning that rows have more texts than the engine's own, or fewer; None where they fit.

    Args:
        expected: of `text_columns`.
        given: texts of a row.

    >>> mismatch(("text",), 2)
    'Pairs of texts are answered, and this engine is for single texts (text): answers may be wrong.'
    """
    if not expected or len(expected) == given:
        return None
    words = {1: "single texts", 2: "pairs of texts"}
    return (
        f"{words[given].capitalize()} are answered, and this engine is for "
        f"{words[len(expected)]} ({', '.join(expected)}): answers may be wrong."
    )


def texts_of_row(manifest: EngineFields) -> int:
    """How many texts an engine reads together, 1 or 2; 0 where nobody knows.

    Args:
        manifest: of `text_columns`.
    """
    if manifest["task"] == SPANS:
        return 2
    return 1 if manifest["task"] in (TOKENS, EMBEDDINGS) else len(text_columns(manifest))
