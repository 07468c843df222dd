"""Predictions of an engine directory for a caller's own texts: `qdeploy.load(engine_dir)`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qdeploy.data.rows import Rows
from qdeploy.data.texts import Texts, rows_from_texts
from qdeploy.errors import DataError, ModelError, PlanError, choose
from qdeploy.evaluate.aggregation import NONE, STRATEGIES, aggregated
from qdeploy.evaluate.answers import (
    Entity,
    Prediction,
    Ranked,
    check_classes,
    entities,
    predictions,
    softmax,
    threshold_of,
)
from qdeploy.evaluate.embeddings import FLOAT32, cut, prompt_of, stored
from qdeploy.evaluate.predict import check_finite
from qdeploy.evaluate.question_answering import QuestionAnswering
from qdeploy.files.artifact import MANIFEST, sha256_file
from qdeploy.head import EMBEDDINGS, METHODS, SEQUENCES, SPANS, TOKENS
from qdeploy.types import Array


class Predictor(QuestionAnswering):
    """What an engine says of texts; see `TextRunner`."""

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
            other = {TOKENS: "entities() or logits()", EMBEDDINGS: "encode()", SPANS: "answer()"}
            raise PlanError(
                f"This is a {self.task} engine, and predict() is for sequence classification. "
                f"Call {other[self.task]}."
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

    def rank(
        self,
        query: str,
        texts: Sequence[str],
        *,
        top_k: int | None = None,
        batch_size: int = 8,
        max_length: int | None = None,
    ) -> list[Ranked]:
        """Texts by how well they answer a query, the best first, as `CrossEncoder.rank` does.

        Args:
            query: the first text of each pair.
            texts: the second ones.
            top_k: so many of the best; None gives all.
            batch_size, max_length: of `predict`.

        Returns:
            With the scores of `predict`; of equal ones the earlier text comes first.

        Raises:
            DataError: something that is no text.
            PlanError: the engine gives no single score of a pair, or a `top_k` below 1.
        """
        if self.task != SEQUENCES or len(self.labels) != 1:
            raise PlanError(
                f"rank() is for models with one logit, and this is a {self.head.description}. Call "
                f"{METHODS[self.task]}()."
            )
        if isinstance(texts, str):
            raise DataError("A lone text was given: pass [text, …].")
        whole = isinstance(top_k, int | np.integer) and not isinstance(top_k, bool)
        if top_k is not None and not (whole and top_k > 0):
            raise PlanError(f"top_k is {top_k}, and 1 or more was expected; None gives all.")
        pairs = [(query, text) for text in texts]
        if not pairs:
            return []  # of a search that found nothing
        found = self.predict(pairs, batch_size=batch_size, max_length=max_length)
        order = sorted(range(len(pairs)), key=lambda at: -found[at].score)
        return [Ranked(at, found[at].score, pairs[at][1]) for at in order[:top_k]]

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
        aggregation_strategy: str = NONE,
    ) -> list[list[Entity]]:
        """What in each text is something, in the order given, as transformers' pipeline says.

        Args:
            texts: a list of strings.
            batch_size: rows per run; fewer where they are long.
            max_length: tokens kept of a row; None is what the model takes.
            ignore: classes, or types, that are left out.
            aggregation_strategy: "none", each token by itself; "simple", "first", "average" or
                "max": entities, see `qdeploy.evaluate.aggregation`.

        Raises:
            DataError: no texts, a lone text, pairs, or something that is no text.
            PlanError: the engine is no token classifier, or another strategy.
            VerificationError: logits that are not finite.
        """
        choose("aggregation strategy", aggregation_strategy, STRATEGIES, PlanError)
        if self.task != TOKENS:
            raise PlanError(
                f"This is a {self.task} engine, and entities() is for token classification. Call "
                f"{METHODS[self.task]}()."
            )
        rows = rows_from_texts(texts)
        if rows.second is not None:
            raise DataError(
                "Pairs were given, and entities() takes texts: pass [text, …], or call logits()."
            )
        outputs = self.logits(texts, batch_size=batch_size, max_length=max_length)
        return self.entities_of(
            rows, outputs, max_length=max_length, ignore=ignore, strategy=aggregation_strategy
        )

    def entities_of(
        self,
        rows: Rows,
        outputs: Sequence[Mapping[str, Array]],
        *,
        max_length: int | None = None,
        ignore: Sequence[str] = ("O",),
        strategy: str = NONE,
    ) -> list[list[Entity]]:
        """What the outputs of `logits` say, of a token classifier.

        Args:
            rows: texts.
            outputs: of each row.
            max_length, ignore, strategy: of `entities`.

        Raises:
            ModelError, VerificationError: of `entities`.
        """
        encoder, found = self._subject.encoder, list[list[Entity]]()
        spelled = encoder.spelled(rows, max_length)
        for text, tokens, output in zip(rows.first, spelled, outputs, strict=True):
            check_classes(output["logits"], self.labels)
            named = entities(text, tokens, output["logits"], self.labels, encoder.unknown_id)
            if strategy != NONE:
                scores = softmax(output["logits"])
                named = aggregated(
                    text, tokens, scores, self.labels, strategy, continues=encoder.continues_word
                )
            found.append([entity for entity in named if entity.label not in ignore])
        return found

    def encode(
        self,
        texts: Sequence[str],
        *,
        batch_size: int = 8,
        max_length: int | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
        output_precision: str = FLOAT32,
        truncate_dim: int | None = None,
    ) -> Array:
        """Embeddings of texts, in the order given, as `SentenceTransformer.encode` gives them.

        Args:
            texts: a list of strings.
            batch_size: rows per run; fewer where they are long.
            max_length: tokens kept of a text; None is what the model takes.
            prompt_name: of a prompt of the checkpoint, which stands in front of each text; None is
                the checkpoint's default, if it has one.
            prompt: the same, as a text of your own; "" is none.
            output_precision: "float32", "int8" or "binary"; see `qdeploy.evaluate.embeddings`.
            truncate_dim: dimensions kept, the first ones; None keeps all.

        Returns:
            Float32 [N, D]; int8 [N, D]; or uint8 [N, ⌈D / 8⌉] of "binary".

        Raises:
            DataError: no texts, a lone text, pairs, or something that is no text.
            PlanError: the engine is no embedding model; an option that it does not have.
            VerificationError: values that are not finite.
        """
        if self.head.embedding is None:
            raise PlanError(
                f"This is a {self.task} engine, and encode() is for sentence embedding. Call "
                f"{METHODS[self.task]}()."
            )
        rows = rows_from_texts(texts)
        if rows.second is not None:
            raise DataError("Pairs were given, and encode() takes texts: pass [text, …].")
        before = prompt_of(self.head, prompt_name, prompt)
        outputs, _ = self.run(rows, batch_size, max_length, prompt=before)
        return self.embeddings_of(outputs, output_precision, truncate_dim)

    def embeddings_of(
        self,
        outputs: Sequence[Mapping[str, Array]],
        output_precision: str = FLOAT32,
        truncate_dim: int | None = None,
    ) -> Array:
        """What the outputs of `run` say, of an embedding model; see `encode`."""
        found = [row["sentence_embedding"] for row in outputs]
        check_finite(found)
        return stored(cut(np.stack(found), self.head, truncate_dim), output_precision)

    def __reduce__(self) -> tuple[object, ...]:
        return _load_again, (*self._made, self._manifest)


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
