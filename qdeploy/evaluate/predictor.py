"""Predictions of an engine directory for a caller's own texts: `qdeploy.load(engine_dir)`."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qdeploy.data.batches import Batch
from qdeploy.data.reading import Reading
from qdeploy.data.row_texts import mismatch, text_columns
from qdeploy.data.rows import Rows
from qdeploy.data.texts import Texts, rows_from_texts
from qdeploy.deploy.one_process import OfOneProcess
from qdeploy.errors import DataError, ModelError, PlanError, QDeployWarning
from qdeploy.evaluate.answers import (
    Entity,
    Prediction,
    check_classes,
    entities,
    predictions,
    threshold_of,
)
from qdeploy.evaluate.loaded_engine import load_engine
from qdeploy.evaluate.odd_heads import warn_of_head
from qdeploy.evaluate.predict import bounded_batches, check_finite
from qdeploy.files.artifact import MANIFEST, sha256_file
from qdeploy.files.integrity import SHA256
from qdeploy.head import SEQUENCES, TOKENS
from qdeploy.machine.threads import check_threads
from qdeploy.types import Array


class Predictor(OfOneProcess):
    """An engine with its tokenizer and class names.

    Any number of threads may use one. It does not survive a fork, and says so. Pickled, it loads
    the same directory again.

    Attributes:
        labels: class names by index; names that stood twice are told apart ("name", "name#2").
        head: what the outputs mean (`qdeploy.head.Head`).
        task: "sequence-classification", "token-classification" or "question-answering".
        max_length: tokens that the model takes; longer texts are cut.
        threads: that one run may use.

    Raises:
        ModelError: not an engine directory.
        TargetError: its target does not work on this machine.
        PlanError: `threads` is no number that helps.
    """

    def __init__(
        self, engine_dir: str | Path, *, threads: int | None = None, verify: str = SHA256
    ) -> None:
        self.threads = check_threads(threads)
        self._subject = load_engine(engine_dir, self.threads, how=verify)
        super().__init__()
        self._made = (os.path.abspath(engine_dir), threads, verify)
        self._manifest = sha256_file(self._subject.directory / MANIFEST)
        self.head = self._subject.head
        self.labels: tuple[str, ...] = self.head.labels
        self.task: str = self.head.task
        self.max_length = self._subject.encoder.max_length
        self._of_a_row, self._said = text_columns(self._subject.manifest), False
        warn_of_head(self.head, tuple(self._subject.manifest["labels"]))

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns of the texts in the data that the engine was built with; none where unknown."""
        kept = self._subject.manifest.get("data")
        return () if kept is None else Reading.from_json(kept).places.texts

    def predict(
        self,
        texts: Texts,
        *,
        batch_size: int = 8,
        max_length: int | None = None,
        threshold: float | None = None,
        function_to_apply: str | None = None,
    ) -> list[Prediction]:
        """Classify texts, or pairs of texts, in the order given, as transformers' pipeline does.

        Scores are a softmax over the classes; a sigmoid of each class of a multi-label classifier;
        the values themselves of a regression; of a model with one logit its sigmoid, or what the
        activation in a cross-encoder's config.json makes of it.

        Args:
            texts: a list of strings; of (first, second) pairs; or of {"text", "text_pair"}.
            batch_size: rows per run; fewer where they are long.
            max_length: tokens kept of a row; None is what the model takes.
            threshold: of a multi-label classifier: the score, 0 … 1, above which a class is one of
                `Prediction.labels`; None is 0.5.
            function_to_apply: "softmax", "sigmoid" or "none", in place of the checkpoint's own.

        Raises:
            DataError: no texts, a lone text or pair, or something that is no text.
            PlanError: the engine does not classify sequences: use `entities` or `logits`; or an
                option that it does not have.
            ModelError: as many logits as there are class names were expected.
            VerificationError: logits that are not finite.
        """
        if self.task != SEQUENCES:
            other = "entities() or logits()" if self.task == TOKENS else "logits()"
            raise PlanError(
                f"This is a {self.task} engine, and predict() is for sequence classification. "
                f"Call {other}."
            )
        threshold = threshold_of(self.head, threshold)
        function = self.head.score_function(function_to_apply)
        outputs = self.logits(texts, batch_size=batch_size, max_length=max_length)
        return self.predictions_of(outputs, threshold, function)

    def predictions_of(
        self, outputs: Sequence[Mapping[str, Array]], threshold: float, function: str
    ) -> list[Prediction]:
        """What the outputs of `logits` say, of an engine that classifies sequences.

        Args:
            outputs: of each row.
            threshold, function: of `qdeploy.evaluate.answers.predictions`.

        Raises:
            ModelError, VerificationError: of `predict`.
        """
        rows = [row["logits"] for row in outputs]
        check_finite(rows)
        logits = np.stack(rows)
        check_classes(logits, self.labels)
        return predictions(logits, self.head, function, threshold)

    async def apredict(self, texts: Texts, **options: Any) -> list[Prediction]:
        """`predict` in a thread, so that the event loop goes on; runtimes release the GIL.

        Args:
            texts, options: of `predict`.

        Raises:
            As `predict`.
        """
        return await asyncio.to_thread(self.predict, texts, **options)

    def entities(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 8,
        max_length: int | None = None,
        ignore: Sequence[str] = ("O",),
    ) -> list[list[Entity]]:
        """The tokens of each text that are something, in the order given.

        What transformers' pipeline gives with `aggregation_strategy="none"`: no two tokens are put
        together.

        Args:
            texts: a list of strings.
            batch_size: rows per run; fewer where they are long.
            max_length: tokens kept of a row; None is what the model takes.
            ignore: classes whose tokens are left out.

        Raises:
            DataError: no texts, a lone text, pairs, or something that is no text.
            PlanError: the engine is no token classifier.
            VerificationError: logits that are not finite.
        """
        if self.task != TOKENS:
            raise PlanError(
                f"This is a {self.task} engine, and entities() is for token classification. Call "
                f"{'predict' if self.task == SEQUENCES else 'logits'}()."
            )
        rows = rows_from_texts(texts)
        if rows.second is not None:
            raise DataError(
                "Pairs were given, and entities() takes texts: pass [text, …], or call logits()."
            )
        outputs = self.logits(texts, batch_size=batch_size, max_length=max_length)
        return self.entities_of(rows, outputs, max_length=max_length, ignore=ignore)

    def entities_of(
        self,
        rows: Rows,
        outputs: Sequence[Mapping[str, Array]],
        *,
        max_length: int | None = None,
        ignore: Sequence[str] = ("O",),
    ) -> list[list[Entity]]:
        """What the outputs of `logits` say, of a token classifier.

        Args:
            rows: texts.
            outputs: of each row.
            max_length, ignore: of `entities`.

        Raises:
            ModelError, VerificationError: of `entities`.
        """
        encoder, found = self._subject.encoder, list[list[Entity]]()
        spelled = encoder.spelled(rows, max_length)
        for text, tokens, output in zip(rows.first, spelled, outputs, strict=True):
            check_classes(output["logits"], self.labels)
            named = entities(text, tokens, output["logits"], self.labels, encoder.unknown_id)
            found.append([entity for entity in named if entity.label not in ignore])
        return found

    def logits(
        self, texts: Texts, *, batch_size: int = 8, max_length: int | None = None
    ) -> list[dict[str, Array]]:
        """Raw outputs of each row, in the order given, without the padding.

        Args:
            texts: a list of strings; of (first, second) pairs; or of {"text", "text_pair"}.
            batch_size: rows per run; fewer where they are long.
            max_length: tokens kept of a row; None is what the model takes.

        Returns:
            Per row, the outputs by name, float32: `logits` [classes] of a sequence classifier or
            [S, classes] of a token classifier; `start_logits` and `end_logits` [S] of question
            answering. S counts the row's own tokens, special ones included.

        Raises:
            DataError: no texts, a lone text or pair, or something that is no text.
        """
        found, _ = self.run(rows_from_texts(texts), batch_size, max_length)
        return found

    def run(
        self, rows: Rows, batch_size: int, max_length: int | None
    ) -> tuple[list[dict[str, Array]], int]:
        """`logits` of rows, and how many of them were cut."""
        self.check_process()
        self._compare_texts(1 if rows.second is None else 2)
        encoder = self._subject.encoder
        encoded = encoder.encode(rows, max_length)
        found: list[dict[str, Array]] = [{} for _ in range(len(rows))]
        for batch in bounded_batches(encoder, encoded, batch_size):
            outputs = self._subject.engine.run(batch.feeds)
            for name, values in outputs.items():
                for at, row in enumerate(batch.index):
                    found[row][name] = self._own(values[at], batch, at)
        return found, encoded.truncated

    def __reduce__(self) -> tuple[object, ...]:
        return _load_again, (*self._made, self._manifest)

    def _own(self, values: Array, batch: Batch, at: int) -> Array:
        """The part of an output that belongs to a row's own tokens."""
        if self.task == SEQUENCES:
            return values
        kept: Array = values[batch.feeds["attention_mask"][at] == 1]
        return kept

    def check_room(self, max_length: int, texts: int) -> None:
        """Refuse a limit that leaves no room for text.

        Args:
            max_length: tokens kept of a row.
            texts: of a row, 1 or 2.

        Raises:
            PlanError: with the least limit.
        """
        least = self._subject.encoder.least_tokens(pair=texts == 2)
        if max_length < least:
            raise PlanError(
                f"--max-length is {max_length}, and a row needs {least} tokens at least: one of "
                "each text beside the special ones. Give more, or leave it out."
            )

    def _compare_texts(self, given: int) -> None:
        """Say once that rows are pairs where the engine is for texts, or the other way round."""
        text = None if self._said else mismatch(self._of_a_row, given)
        if text is not None:
            self._said = True
            warnings.warn(text, QDeployWarning, stacklevel=5)  # of who called predict()


def _load_again(engine_dir: str, threads: int | None, verify: str, manifest: str) -> Predictor:
    """A predictor that was pickled, here.

    Raises:
        ModelError: the directory is not here, or holds another build by now.
    """
    found = Predictor(engine_dir, threads=threads, verify=verify)
    if sha256_file(Path(engine_dir) / MANIFEST) != manifest:
        raise ModelError(
            f"{engine_dir} holds another build than when this was pickled. Load it with "
            "qdeploy.load(), and pickle that."
        )
    return found
