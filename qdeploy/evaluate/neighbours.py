"""Whether the answer to a row depends on the rows that run beside it.

An engine that takes the scale of an activation from the whole batch (dynamic quantization) answers
a row by the company that it is in. Three runs of the same rows tell:

1. every batch padded to one length;
2. the same, with the rows dealt to other batches: what changes comes from the neighbours alone;
3. the batches of the first run, each padded to its own longest row: what changes comes from the
   padding alone. Kernels sum in another order there, so that a float engine too may differ in the
   last digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from qdeploy.data.lengths import row_limit
from qdeploy.data.rows import Rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.deploy.engine import Engine
from qdeploy.evaluate.metrics import largest_difference
from qdeploy.evaluate.predict import RUN_TOKENS, check_finite
from qdeploy.figures import changed, logit_difference
from qdeploy.head import MULTI_LABEL, SEQUENCES, Head
from qdeploy.schemas.evaluation import Change, NeighbourFigures, Neighbours
from qdeploy.types import Array, Progress

Outputs = dict[str, Array]  # of one row: [classes], or [S, ...] of its own tokens

CLASSIFIER = Head(SEQUENCES, ("0", "1"))
_ROWS = 128  # looked at, at most
_TOKENS = 128 * _ROWS  # padding included: fewer rows where they are long
_SHORTER = 0.95  # of the rows: all are padded to one length, and the few longest would set it
_ROUNDING = 1e-5  # of the largest output: below it FP32 sums in another order explain a difference


@dataclass(frozen=True)
class _Dealt:
    """The rows of one run: in which order, and padded to how many tokens (None: the longest)."""

    rows: Rows
    order: Array
    batch_size: int
    limit: int
    pad_to: int | None


def neighbours_of(
    engine: Engine,
    encoder: TextEncoder,
    rows: Rows,
    *,
    batch_size: int = 8,
    max_length: int | None = None,
    head: Head = CLASSIFIER,
    progress: Progress | None = None,
    stage: str = "neighbours",
) -> Neighbours | None:
    """Run the same rows in other company, and compare.

    Args:
        engine: of any head.
        encoder: its tokenizer.
        rows: at most 128 of them are looked at, taken evenly, without the longest twentieth; fewer
            where they are long.
        batch_size: rows of a run; smaller where rows are long or few.
        max_length: tokens kept of a row; None is what the model takes, at most 512.
        head: what the outputs mean; a classifier of two classes or more where it is left out.
        progress, stage: called as progress(stage, rows done, rows of the three runs).

    Returns:
        None where no two rows run together. Otherwise `rows`, looked at; `batch_size`, rows of a
        run; `max_abs_diff`, the largest change of a logit in other company with equal padding;
        `flipped`, rows whose answer changes (None where the head answers with values); `padding`,
        the same two figures of other padding in equal company; `summary`, a sentence.

    Raises:
        VerificationError: a logit is not finite.
    """
    limit = row_limit(encoder.max_length, max_length)
    batch = min(batch_size, len(rows) // 2)
    if batch < 2:
        return None
    some = _evenly(rows, _ROWS)
    lengths = encoder.encode(some, limit).lengths
    width = int(np.quantile(lengths, _SHORTER, method="higher"))
    some = some.select(np.flatnonzero(lengths <= width).tolist())
    batch = max(2, min(batch, RUN_TOKENS // width, len(some) // 2))
    some = _evenly(some, max(2 * batch, _TOKENS // width))
    some = some.take(len(some) // batch * batch)

    order = np.arange(len(some))
    dealt = order.reshape(batch, -1).T.ravel()  # the rows of a batch come from all over
    runs = []
    for at, (places, pad_to) in enumerate(((order, width), (dealt, width), (order, None))):
        told = partial(_tell, progress, stage, at * len(some), 3 * len(some))
        wanted = _Dealt(some, places, batch, limit, pad_to)
        runs.append(_outputs(engine, encoder, wanted, head, told))
    first, other, tight = runs
    scale = max(float(np.abs(values).max()) for row in first for values in row.values())
    found: NeighbourFigures = {
        "rows": len(some),
        "batch_size": batch,
        **_difference(first, other, head),
        "padding": _difference(first, tight, head),
    }
    return {**found, "summary": _summary(found, scale)}


def _tell(progress: Progress | None, stage: str, before: int, total: int, done: int) -> None:
    if progress:
        progress(stage, before + done, total)


def _evenly(rows: Rows, count: int) -> Rows:
    """So many of the rows at most, from start to end in equal steps."""
    if len(rows) <= count:
        return rows
    return rows.select([at * len(rows) // count for at in range(count)])


def _outputs(
    engine: Engine,
    encoder: TextEncoder,
    dealt: _Dealt,
    head: Head,
    progress: Callable[[int], None],
) -> list[Outputs]:
    """What the engine gives for each row, in the order of the rows, without the padding."""
    found: list[Outputs] = [{}] * len(dealt.rows)
    encoded = encoder.encode(dealt.rows.select(dealt.order.tolist()), dealt.limit)
    batches = encoder.batches(encoded, dealt.batch_size, sort=False, pad_to=dealt.pad_to)
    for batch in batches:
        outputs = engine.run(batch.feeds)
        for at, place in enumerate(dealt.order[batch.index]):
            kept = ... if head.of_rows else batch.feeds["attention_mask"][at] == 1
            found[place] = {name: outputs[name][at][kept] for name in head.answers}
        progress(int(batch.index[-1]) + 1)
    check_finite([values for row in found for values in row.values()])
    return found


def _difference(first: list[Outputs], other: list[Outputs], head: Head) -> Change:
    """`max_abs_diff` and `flipped` of the same rows in two runs."""
    pairs = [(a[name], b[name]) for a, b in zip(first, other, strict=True) for name in a]
    flipped = None
    if not head.of_rows or head.chooses or head.problem_type == MULTI_LABEL:
        rows = zip(first, other, strict=True)
        flipped = sum(
            any(not np.array_equal(_answer(a[name], head), _answer(b[name], head)) for name in a)
            for a, b in rows
        )
    return {
        "max_abs_diff": max(largest_difference(a, b) for a, b in pairs),
        "flipped": flipped,
    }


def _answer(values: Array, head: Head) -> Array:
    """What one output of a row says: a class, classes, a class for each token, or a place."""
    if head.problem_type == MULTI_LABEL:
        present: Array = values > 0
        return present
    best: Array = np.argmax(values, axis=-1)
    return best


def _summary(found: NeighbourFigures, scale: float) -> str:
    """The figures as a sentence without a full stop."""
    company, padding = found["max_abs_diff"], found["padding"]["max_abs_diff"]
    if company:
        digits = ", in its last digits alone" if _is_rounding(found, scale) else ""
        return f"An answer depends on the rows beside it{digits}: {_figures(found, found['rows'])}"
    text = "An answer does not depend on the rows beside it"
    if not padding:
        return text
    changes = "its last digits" if _is_rounding(found["padding"], scale) else "it"
    figures = _figures(found["padding"], found["rows"])
    return f"{text}; their padding changes {changes}: {figures}"


def _is_rounding(found: Change, scale: float) -> bool:
    return not found["flipped"] and found["max_abs_diff"] <= _ROUNDING * scale


def _figures(found: Change, rows: int) -> str:
    text, flipped = f"up to {logit_difference(found['max_abs_diff'])}", found["flipped"]
    if flipped is None:  # no class is chosen
        return f"{text} in a value"
    return f"{text} in a logit, {changed(flipped, rows)}"
