"""Predictions of an engine directory for a caller's own texts: `qdeploy.load(engine_dir)`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qdeploy.data.rows import Rows, rows_from_texts
from qdeploy.data.tokenize import Batch
from qdeploy.errors import PlanError
from qdeploy.evaluate.predict import predict_logits
from qdeploy.evaluate.subject import open_subject

Array = npt.NDArray[Any]
Texts = Sequence[str] | Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Prediction:
    """What an engine says of one text, or of one pair.

    Attributes:
        label: name of the likeliest class.
        score: its probability, 0 … 1.
        scores: probability of every class, by name, in the model's order.
    """

    label: str
    score: float
    scores: dict[str, float]


class Predictor:
    """An engine with its tokenizer and class names.

    Attributes:
        labels: class names by index.
        task: "sequence-classification", "token-classification" or "question-answering".
        max_length: tokens that the model takes; longer texts are cut.

    Raises:
        ModelError: not an engine directory.
        TargetError: its target does not work on this machine.
        PlanError: `threads` is below 1.
    """

    def __init__(self, engine_dir: str | Path, *, threads: int = 2) -> None:
        if threads < 1:
            raise PlanError(f"threads is {threads}, and at least 1 is needed.")
        self._subject = open_subject(engine_dir, threads)
        self.labels: tuple[str, ...] = tuple(self._subject.manifest["labels"])
        self.task: str = self._subject.manifest["task"]
        self.max_length = self._subject.encoder.max_length

    def predict(self, texts: Texts, *, batch_size: int = 8) -> list[Prediction]:
        """Classify texts, or pairs of texts, in the order given.

        Args:
            texts: strings, or (first, second) pairs; at least one.
            batch_size: rows per run.

        Raises:
            DataError: no texts, a lone string, or something that is no text.
            PlanError: the engine does not classify sequences: use `logits`.
            VerificationError: logits that are not finite.
        """
        if not self._subject.classifies:
            raise PlanError(
                f"This is a {self.task} engine, and predict() is for sequence classification. "
                "Call logits()."
            )
        rows = rows_from_texts(texts)
        encoder = self._subject.encoder
        logits = predict_logits(
            self._subject.engine, encoder, encoder.encode(rows, None), batch_size=batch_size
        )
        return [self._prediction(row) for row in softmax(logits)]

    def logits(self, texts: Texts, *, batch_size: int = 8) -> list[dict[str, Array]]:
        """Raw outputs of each row, in the order given, without the padding.

        Args:
            texts: strings, or (first, second) pairs; at least one.
            batch_size: rows per run.

        Returns:
            Per row, the outputs by name, float32: `logits` [classes] of a sequence classifier or
            [S, classes] of a token classifier; `start_logits` and `end_logits` [S] of question
            answering. S counts the row's own tokens, special ones included.

        Raises:
            DataError: no texts, a lone string, or something that is no text.
        """
        rows: Rows = rows_from_texts(texts)
        encoder = self._subject.encoder
        found: list[dict[str, Array]] = [{} for _ in range(len(rows))]
        for batch in encoder.batches(encoder.encode(rows, None), batch_size):
            outputs = self._subject.engine.run(batch.feeds)
            for name, values in outputs.items():
                for at, row in enumerate(batch.index):
                    found[row][name] = self._own(values[at], batch, at)
        return found

    def _own(self, values: Array, batch: Batch, at: int) -> Array:
        """The part of an output that belongs to a row's own tokens."""
        if self._subject.classifies:
            return values
        kept: Array = values[batch.feeds["attention_mask"][at] == 1]
        return kept

    def _prediction(self, scores: Array) -> Prediction:
        best = int(np.argmax(scores))
        named = dict(zip(self.labels, scores.tolist(), strict=True))
        return Prediction(self.labels[best], named[self.labels[best]], named)


def softmax(logits: Array) -> Array:
    """Probabilities of float32 [N, classes] logits, float64 [N, classes]."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: Array = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities
