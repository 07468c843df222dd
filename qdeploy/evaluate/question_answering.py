"""Answers of a question answering engine: `qdeploy.load(engine_dir).answer(question, context)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict, cast, overload

import numpy as np
from typing_extensions import Unpack

from qdeploy.data.check_rows import text_fault
from qdeploy.data.rows import Rows
from qdeploy.data.texts import rows_from_texts
from qdeploy.data.windows import Windows, window_limit
from qdeploy.errors import DataError, PlanError, RowError
from qdeploy.evaluate.options import SpanOptions
from qdeploy.evaluate.predict import check_finite
from qdeploy.evaluate.spans import N_BEST, Answer, Window, answers_in
from qdeploy.evaluate.text_runner import TextRunner
from qdeploy.head import METHODS, SPANS, Head
from qdeploy.options import defaults, make
from qdeploy.types import Array

Questions = Sequence[tuple[str, str]] | Sequence[Mapping[str, str]]
_QUESTION, _CONTEXT = "question", "context"  # keys of transformers' pipeline
_HOW = "pass answer(question, context), or answer([(question, context), …])"


class SpanFields(TypedDict, total=False):
    """Options of `SpanOptions` by name."""

    max_answer_length: int
    no_answer_threshold: float
    stride: int | None


class QuestionAnswering(TextRunner):
    """What an engine finds in a context; see `TextRunner`."""

    @overload
    def answer(
        self, question: str, context: str, *, top_k: None = None,
        handle_impossible_answer: bool = False, batch_size: int = 8,
        max_length: int | None = None, **fields: Unpack[SpanFields],
    ) -> Answer: ...  # fmt: skip

    @overload
    def answer(
        self, question: str, context: str, *, top_k: int,
        handle_impossible_answer: bool = False, batch_size: int = 8,
        max_length: int | None = None, **fields: Unpack[SpanFields],
    ) -> list[Answer]: ...  # fmt: skip

    @overload
    def answer(
        self, question: Questions, *, top_k: None = None,
        handle_impossible_answer: bool = False, batch_size: int = 8,
        max_length: int | None = None, **fields: Unpack[SpanFields],
    ) -> list[Answer]: ...  # fmt: skip

    @overload
    def answer(
        self, question: Questions, *, top_k: int,
        handle_impossible_answer: bool = False, batch_size: int = 8,
        max_length: int | None = None, **fields: Unpack[SpanFields],
    ) -> list[list[Answer]]: ...  # fmt: skip

    def answer(
        self,
        question: str | Questions,
        context: str | None = None,
        *,
        top_k: int | None = None,
        handle_impossible_answer: bool = False,
        batch_size: int = 8,
        max_length: int | None = None,
        **fields: Unpack[SpanFields],
    ) -> Answer | list[Answer] | list[list[Answer]]:
        """Find answers to questions in their contexts, which may be longer than the model takes.

        Args:
            question: a question; or a list of (question, context) pairs or of
                {"question", "context"}, for an answer to each in the order given.
            context: where the answer stands.
            top_k: a list of so many of the best answers, 1 to 20; None gives the best alone.
            handle_impossible_answer: "no answer" is one, as of models that were trained on
                SQuAD 2.0: its text is empty.
            batch_size: windows per run; fewer where they are long.
            max_length: tokens of a window; None is 384, or what the model takes if that is less.
            fields: of `SpanOptions`: max_answer_length (30 tokens); no_answer_threshold (0.0), by
                which the logits of no answer must exceed those of the best one; stride, tokens of
                a context in two neighbouring windows (128, and half a window at most).

        Raises:
            DataError: no texts, an empty one, something that is no text, or a question that leaves
                no room for its context.
            PlanError: the engine answers no questions, or an option that it does not have.
            VerificationError: logits that are not finite.
        """
        if self.task != SPANS:
            raise PlanError(
                f"This is a {self.task} engine, and answer() is for question answering. Call "
                f"{METHODS[self.task]}()."
            )
        if top_k is not None and not 1 <= top_k <= N_BEST:
            raise PlanError(f"top_k is {top_k}, and 1 to {N_BEST} was expected.")
        rules = make(SpanOptions, cast("Mapping[str, object]", fields))
        rows = _rows(question, context)
        windows, outputs = self.run_windows(rows, batch_size, max_length, rules.stride)
        threshold = allowed(rules, none=handle_impossible_answer)
        found = answers_of(rows, windows, outputs, rules.max_answer_length, threshold)
        if isinstance(question, str):
            return found[0][0] if top_k is None else found[0][:top_k]
        return [one[0] for one in found] if top_k is None else [one[:top_k] for one in found]

    @property
    def window(self) -> int:
        """Tokens of a window where nothing is said: what the engine takes, and at most 384."""
        return window_limit(self._subject.longest, None)

    def run_windows(
        self, rows: Rows, batch_size: int, max_length: int | None, stride: int | None
    ) -> tuple[Windows, list[dict[str, Array]]]:
        """The windows of questions and contexts, and the outputs of each, without the padding.

        Args:
            rows: pairs.
            batch_size, max_length, stride: of `answer`.

        Raises:
            DataError: of `answer`.
        """
        self.check_process()
        self._compare_texts(2)
        limit = self.window if max_length is None else max_length
        windows = self._subject.encoder.windows(rows, limit, stride)
        return windows, self._outputs(windows.encoded, batch_size)


def allowed(rules: SpanOptions, *, none: bool) -> float | None:
    """The threshold of no answer where that may be one, or None.

    Raises:
        PlanError: a threshold, and it may not.
    """
    if not none and rules.no_answer_threshold:
        raise PlanError(
            f"no_answer_threshold is {rules.no_answer_threshold:g}, and every question has an "
            "answer here. Pass handle_impossible_answer, or leave it out."
        )
    return rules.no_answer_threshold if none else None


def check_span_options(head: Head, rules: SpanOptions) -> None:
    """Refuse options of question answering for another head.

    Raises:
        PlanError: one is not as when it is left out.
    """
    if head.task == SPANS:
        return
    for name, plain in defaults(SpanOptions).items():
        if getattr(rules, name) != plain:
            raise PlanError(
                f"--{name.replace('_', '-')} is for question answering, and this engine is a "
                f"{head.description}. Leave it out."
            )


def answers_of(
    rows: Rows,
    windows: Windows,
    outputs: Sequence[Mapping[str, Array]],
    longest: int,
    threshold: float | None,
) -> list[list[Answer]]:
    """The best answers of each row, one at least.

    Args:
        rows: questions and contexts.
        windows: of them.
        outputs: of each window, `start_logits` and `end_logits` FP32 [S].
        longest, threshold: of `qdeploy.evaluate.spans.answers_in`.

    Raises:
        RowError: a context that holds white space alone.
        VerificationError: logits that are not finite.
    """
    assert rows.second is not None
    check_finite([np.stack([*output.values()]) for output in outputs])
    found = []
    ends = np.searchsorted(windows.rows, np.arange(1, len(rows) + 1))
    for at, (context, end) in enumerate(zip(rows.second, ends.tolist(), strict=True)):
        start = int(ends[at - 1]) if at else 0
        own = [
            Window(
                outputs[w]["start_logits"],
                outputs[w]["end_logits"],
                int(windows.starts[w]),
                windows.places[w],
            )
            for w in range(start, end)
        ]
        best = answers_in(context, own, longest=longest, threshold=threshold)
        if not best:
            raise RowError.of(at, "no token of the context is text", "Mend or drop it.")
        found.append(best)
    return found


def _rows(question: str | Questions, context: str | None) -> Rows:
    """Pairs of what a caller gave.

    Raises:
        DataError: something else, or an empty text.
    """
    if isinstance(question, str) != isinstance(context, str):
        raise DataError(f"A question and its context were expected: {_HOW}.")
    if isinstance(question, str):
        pairs: object = [(question, context)]
    else:
        pairs = question
        if isinstance(question, list | tuple):
            pairs = [_pair(item) for item in question]
    rows = rows_from_texts(cast("Questions", pairs))
    if rows.second is None:
        raise DataError(f"Single texts were given, and pairs were expected: {_HOW}.")
    for at, both in enumerate(zip(rows.first, rows.second, strict=True)):
        for name, text in zip((_QUESTION, _CONTEXT), both, strict=True):
            if (fault := text_fault(text)) is not None:
                raise DataError(f"Row {at}: the {name} {fault}, and text was expected: {_HOW}.")
    return rows


def _pair(item: object) -> object:
    """A dict of transformers' pipeline as a pair; anything else as it is."""
    if isinstance(item, Mapping) and set(item) == {_QUESTION, _CONTEXT}:
        return item[_QUESTION], item[_CONTEXT]
    return item
