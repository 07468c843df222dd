"""What in an evaluation should make its reader stop: each thing as one warning."""

from __future__ import annotations

from qdeploy.data.lengths import RowLengths, cut_text, difference_text
from qdeploy.evaluate import metrics
from qdeploy.evaluate.accuracy import Judged
from qdeploy.evaluate.labels import INTEGERS, absent_text
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.figures import accuracy
from qdeploy.head import TOKENS
from qdeploy.names import few
from qdeploy.schemas.evaluation import Evaluation

_SHOWN = 6  # classes that a warning names


def of_lengths(
    lengths: RowLengths, subject: LoadedEngine, longest: int, wanted: int | None
) -> list[str]:
    """Rows that were cut, and a calibration on rows of other lengths, each as one warning.

    Args:
        lengths: of the rows as the engine read them.
        longest: tokens that the engine and its baseline take.
        wanted: --max-length.
    """
    taker = subject.taker if longest == subject.longest else "the baseline"
    cut = cut_text(lengths, "evaluation", longest, wanted, taker)
    if cut is not None and subject.head.task == TOKENS:
        cut += " Words behind the cut have no tag: their entities count as not found."
    texts = [cut]
    if (calibration := subject.calibration_lengths) is not None:
        texts.append(difference_text(calibration, lengths))
    return [text for text in texts if text is not None]


def of_predictions(report: Evaluation, judged: Judged) -> list[str]:
    """Classes in a wrong order, rows of one class, and an engine that answers one class alone."""
    texts = []
    if (text := swap_text(judged)) is not None:
        texts.append(text)
    if judged.gold is not None and judged.only_class is None:
        doubt = absent_text(judged.gold, judged.form, judged.order)
        texts += [] if doubt is None else [doubt]
    if judged.only_class is not None:
        texts.append(
            f"All {len(judged.logits)} rows are of the class '{judged.only_class}': accuracy is "
            "the share of them that is found, and says nothing of the other classes. Take rows, or "
            "a --limit, that have every class."
        )
    base = report["baseline"]
    alike = judged.gold is None and base is not None and base["constant_predictor"]
    if judged.constant and not alike:  # without labels, rows may be of one class: FP32 tells
        only = judged.order.names[int(judged.predicted[0])]
        texts.append(f"CONSTANT PREDICTOR: the engine answers '{only}' for every row.")
    return texts


def swap_text(judged: Judged) -> str | None:
    """Which order of the classes fits better, and where the wrong one may stand; None if none."""
    swapped = judged.swapped
    if swapped is None or judged.gold is None:
        return None
    share = metrics.accuracy(judged.predicted, judged.gold)
    pairs = [f"'{label}' get '{name}'" for label, name in swapped.answered]
    order = ", ".join(f"{at} = {name}" for at, name in enumerate(judged.order.names[:_SHOWN]))
    if judged.form == INTEGERS:
        way = (
            f"The labels are integers, read in the model's order ({order}): write the names of the "
            "classes into the file, or correct id2label in the checkpoint's config.json and export "
            "again."
        )
    else:
        glue = judged.order.origin == "glue"
        said = "GLUE's, since the model has none: set" if glue else "those of id2label: correct"
        way = (
            f"Class names are {said} id2label in the checkpoint's config.json and export again, or "
            "correct the labels of the rows."
        )
    return (
        f"CLASS ORDER: the labels fit another order of the classes far better. Rows labelled "
        f"{few(pairs, _SHOWN)}. Accuracy is {accuracy(share)} %, and would be "
        f"{accuracy(swapped.accuracy)} %. {way}"
    )
