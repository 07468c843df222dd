"""An engine's answers to rows that stream in: what is said of each row, as a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple, TypeAlias

import numpy as np

from qdeploy.data.rows import Rows
from qdeploy.errors import PlanError
from qdeploy.evaluate.answers import THRESHOLD, Entity, Prediction
from qdeploy.evaluate.embeddings import prompt_of
from qdeploy.evaluate.options import PredictOptions
from qdeploy.evaluate.predictor import Predictor
from qdeploy.head import (
    EMBEDDINGS,
    MULTI_LABEL,
    NONE,
    REGRESSION,
    SEQUENCES,
    SPANS,
    TOKENS,
    Head,
)
from qdeploy.options import defaults
from qdeploy.types import Array, Json

Record: TypeAlias = dict[str, Json]  # what is said of a row, by name
# Options that are for one kind of head, under a reader's name of it.
_OF_HEADS = {
    EMBEDDINGS: ("embedding models", ("prompt_name", "output_precision", "truncate_dim")),
    TOKENS: ("token classifiers", ("aggregation_strategy",)),
}


class Answered(NamedTuple):
    """Answers to a block of rows: a record of each, and how many rows were cut."""

    records: list[Record]
    truncated: int


class Answerer:
    """Answers of one engine as records of JSON values.

    Args:
        predictor: the engine.
        asked: how its answers are written; `logits` puts the raw outputs beside them.

    Attributes:
        fields: names of a record's values, in order.

    Raises:
        PlanError: the engine has no answers but its outputs, and these are not wanted; or an option
            of another kind of head.
    """

    def __init__(self, predictor: Predictor, asked: PredictOptions) -> None:
        if predictor.task == SPANS and not asked.logits:
            raise PlanError(
                "This engine answers questions, and the place of an answer in the text is not "
                "worked out here. Pass --logits for start_logits and end_logits of each token."
            )
        self._predictor, self._asked = predictor, asked
        _check_options(predictor.head, asked)
        embeds = predictor.task == EMBEDDINGS
        self._prompt = prompt_of(predictor.head, asked.prompt_name, None) if embeds else None
        self._answer = _fields(predictor.head)
        # an embedding is an output already
        self._outputs = predictor.head.answers if asked.logits and not embeds else ()
        self.fields = (*self._answer, *self._outputs)
        self._function = predictor.head.score_function() if predictor.task == SEQUENCES else NONE

    def answer(self, rows: Rows) -> Answered:
        """Answers to rows, in their order.

        Raises:
            DataError: a row holds a token that the model has no embedding for.
            ModelError, VerificationError: of `Predictor.predict`.
        """
        asked = self._asked
        outputs, truncated = self._predictor.run(
            rows, asked.batch_size, asked.max_length, prompt=self._prompt
        )
        records = self._say(rows, outputs)
        for record, row in zip(records, outputs, strict=True):
            record |= {name: _exact(row[name]) for name in self._outputs}
        return Answered(records, truncated)

    def _say(self, rows: Rows, outputs: Sequence[Mapping[str, Array]]) -> list[Record]:
        task = self._predictor.task
        if task == SPANS:
            return [{} for _ in outputs]
        if task == TOKENS:
            found = self._predictor.entities_of(
                rows,
                outputs,
                max_length=self._asked.max_length,
                strategy=self._asked.aggregation_strategy,
            )
            return [{"entities": [_entity(entity) for entity in row]} for row in found]
        if task == EMBEDDINGS:
            vectors = self._predictor.embeddings_of(
                outputs, self._asked.output_precision, self._asked.truncate_dim
            )
            exact = vectors.tolist() if vectors.dtype != np.float32 else map(_exact, vectors)
            return [{"embedding": row} for row in exact]
        said = self._predictor.predictions_of(outputs, THRESHOLD, self._function)
        return [{name: _value(prediction, name) for name in self._answer} for prediction in said]


def _check_options(head: Head, asked: PredictOptions) -> None:
    """Refuse options of another kind of head.

    Raises:
        PlanError: naming the first.
    """
    plain = defaults(PredictOptions)
    for task, (heads, names) in _OF_HEADS.items():
        for name in names:
            if head.task != task and getattr(asked, name) != plain[name]:
                raise PlanError(
                    f"--{name.replace('_', '-')} is for {heads}, and this engine is a "
                    f"{head.description}. Leave it out."
                )


def _fields(head: Head) -> tuple[str, ...]:
    """What is said of a row, by the kind of head."""
    if head.task == SPANS:
        return ()
    if head.task == TOKENS:
        return ("entities",)
    if head.task == EMBEDDINGS:
        return ("embedding",)
    if head.problem_type == MULTI_LABEL:
        return ("labels", "scores")
    if len(head.labels) < 2:
        return ("score",)
    return ("scores",) if head.problem_type == REGRESSION else ("label", "score")


def _value(prediction: Prediction, name: str) -> Json:
    if name == "labels":
        return list(prediction.labels)
    if name == "scores":
        return {label: _short(score) for label, score in prediction.scores.items()}
    return prediction.label if name == "label" else _short(prediction.score)


def _entity(entity: Entity) -> Record:
    return asdict(entity) | {"score": _short(entity.score)}


def _short(score: float) -> float:
    """A score to seven digits: it is made of FP32 logits, which hold no more."""
    return float(f"{score:.7g}")


def _exact(values: Array) -> Json:
    """FP32 numbers as nested lists, with as many digits as tell each from all others."""
    if values.ndim:
        return [_exact(value) for value in values]
    return float(f"{values:.9g}")
