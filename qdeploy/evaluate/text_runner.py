"""An engine with its tokenizer, and its outputs for a caller's own texts."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from qdeploy.data.batches import Batch, Encoded
from qdeploy.data.reading import Reading
from qdeploy.data.row_texts import mismatch, text_columns
from qdeploy.data.rows import Rows
from qdeploy.data.texts import Texts, rows_from_texts
from qdeploy.deploy.one_process import OfOneProcess
from qdeploy.errors import DataError, PlanError, QDeployWarning
from qdeploy.evaluate.loaded_engine import load_engine
from qdeploy.evaluate.odd_heads import warn_of_head
from qdeploy.evaluate.predict import bounded_batches
from qdeploy.files.artifact import MANIFEST, sha256_file
from qdeploy.files.integrity import SHA256
from qdeploy.machine.threads import check_threads
from qdeploy.types import Array


class TextRunner(OfOneProcess):
    """An engine with its tokenizer and class names.

    Any number of threads may use one. It does not survive a fork, and says so. Pickled, it loads
    the same directory again.

    Attributes:
        labels: class names by index; names that stood twice are told apart ("name", "name#2").
        head: what the outputs mean (`qdeploy.head.Head`).
        task: one of `qdeploy.head.TASKS`.
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
            answering; `sentence_embedding` [D] and `token_embeddings` [S, H] of an embedding model.
            S counts the row's own tokens, special ones included.

        Raises:
            DataError: no texts, a lone text or pair, or something that is no text.
        """
        found, _ = self.run(rows_from_texts(texts), batch_size, max_length)
        return found

    def run(
        self, rows: Rows, batch_size: int, max_length: int | None, *, prompt: str | None = None
    ) -> tuple[list[dict[str, Array]], int]:
        """`logits` of rows, and how many of them were cut; `prompt` is of `TextEncoder.encode`."""
        self.check_process()
        encoder = self._subject.encoder
        if encoder.one_text and rows.second is not None:
            raise DataError("Pairs were given, and an embedding model takes texts: [text, …].")
        if not encoder.one_text:
            self._compare_texts(1 if rows.second is None else 2)
        encoded = encoder.encode(rows, max_length, prompt=prompt)
        return self._outputs(encoded, batch_size), encoded.truncated

    def _outputs(self, encoded: Encoded, batch_size: int) -> list[dict[str, Array]]:
        """The outputs of each row, by name."""
        found: list[dict[str, Array]] = [{} for _ in range(len(encoded))]
        for batch in bounded_batches(self._subject.encoder, encoded, batch_size):
            outputs = self._subject.engine.run(batch.feeds)
            for name, values in outputs.items():
                for at, row in enumerate(batch.index):
                    found[row][name] = self._own(name, values[at], batch, at)
        return found

    def _own(self, name: str, values: Array, batch: Batch, at: int) -> Array:
        """The part of an output that belongs to a row's own tokens."""
        if self.head.of_rows and name in self.head.answers:
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
