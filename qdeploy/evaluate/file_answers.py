"""An engine's answers to rows that stream in: what is said of each row, as a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple, TypeAlias, cast

import numpy as np

from qdeploy.data.rows import Rows
from qdeploy.errors import PlanError
from qdeploy.evaluate.answers import Entity, Prediction, threshold_of
from qdeploy.evaluate.embeddings import prompt_of
from qdeploy.evaluate.options import PredictOptions
from qdeploy.evaluate.predictor import Predictor
from qdeploy.evaluate.question_answering import allowed, answers_of, check_span_options
from qdeploy.evaluate.spans import Answer
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
    SPANS: ("question answering", ("handle_impossible_answer",)),
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
        PlanError: options of another kind of head.
    """

    def __init__(self, predictor: Predictor, asked: PredictOptions) -> None:
        check_span_options(predictor.head, asked.spans)
        self._predictor, self._asked = predictor, asked
        _check_options(predictor.head, asked)
        self._no_answer = allowed(asked.spans, none=asked.handle_impossible_answer)
        embeds = predictor.task == EMBEDDINGS
        self._prompt = prompt_of(predictor.head, asked.prompt_name, None) if embeds else None
        self._threshold = threshold_of(predictor.head, asked.threshold)
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
        if self._predictor.task == SPANS:
            return Answered(self._find(rows), 0)
        outputs, truncated = self._predictor.run(
            rows, asked.batch_size, asked.max_length, prompt=self._prompt
        )
        records = self._say(rows, outputs)
        for record, row in zip(records, outputs, strict=True):
            record |= {name: _exact(row[name]) for name in self._outputs}
        return Answered(records, truncated)

    def _find(self, rows: Rows) -> list[Record]:
        """The answer to each question; outputs are lists of its windows."""
        asked, rules = self._asked, self._asked.spans
        windows, outputs = self._predictor.run_windows(
            rows, asked.batch_size, asked.max_length, rules.stride
        )
        found = answers_of(rows, windows, outputs, rules.max_answer_length, self._no_answer)
        records: list[Record] = [_answer(answers[0]) for answers in found]
        for record in records:
            record |= {name: [] for name in self._outputs}
        for row, output in zip(windows.rows.tolist(), outputs, strict=True):
            for name in self._outputs:
                cast("list[Json]", records[row][name]).append(_exact(output[name]))
        return records

    def _say(self, rows: Rows, outputs: Sequence[Mapping[str, Array]]) -> list[Record]:
        task = self._predictor.task
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
        said = self._predictor.predictions_of(outputs, self._threshold, self._function)
        return [{name: _value(prediction, name) for name in self._answer} for prediction in said]


def labels_of(record: Record) -> list[str]:
    """The classes that a record names: one, the several of a multi-label classifier, or none."""
    named = record.get("labels", [record.get("label")])
    return [label for label in named if isinstance(label, str)] if isinstance(named, list) else []


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
        return ("answer", "score", "start", "end")
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


def _answer(answer: Answer) -> Record:
    """Under the names of transformers' pipeline."""
    score = _short(answer.score)
    return {"answer": answer.text, "score": score, "start": answer.start, "end": answer.end}


def _short(score: float) -> float:
    """A score to seven digits: it is made of FP32 logits, which hold no more."""
    return float(f"{score:.7g}")


def _exact(values: Array) -> Json:
    """FP32 numbers as nested lists, with as many digits as tell each from all others."""
    if values.ndim:
        return [_exact(value) for value in values]
    return float(f"{values:.9g}")
