"""What the demo's figures say: what to ship, why, and what the paper's collapse was."""

from __future__ import annotations

from qdeploy.figures import changed, factor, logit_difference, percent, points
from qdeploy.schemas.demo import DemoRow
from qdeploy.schemas.evaluation import Change

BASELINE, SHIPPED, DYNAMIC, VICTIM, REMEDY = "fp32", "peg", "dynamic", "w8a8", "peg-k4"
BUSY = 1.3  # slow rounds over fast ones: above it the machine did something else beside
_NOTICEABLE = 0.01  # accuracy as a fraction; below it, a few hundred rows show nothing


def sentences(rows: list[DemoRow], directory: str, spread: float) -> list[str]:
    """Say what the figures show, whatever they show.

    Args:
        rows: lines of the demo's table; accuracy and drop are fractions.
        directory: of the demo, as it was named.
        spread: slow rounds of FP32 over fast ones.

    Returns:
        One paragraph each: what to ship, why not `dynamic`, the collapse, and a busy machine.
    """
    by_name = {row["name"]: row for row in rows}
    shipped, base = by_name[SHIPPED], by_name[BASELINE]
    found = [
        _ship(shipped, base, directory),
        _against_dynamic(shipped, by_name[DYNAMIC]),
        _collapse(by_name[VICTIM], by_name[REMEDY]),
    ]
    return found + ([_busy(spread)] if spread > BUSY else [])


def _ship(shipped: DemoRow, base: DemoRow, directory: str) -> str:
    size = base["size_mb"] / shipped["size_mb"]
    if shipped["drop"] >= _NOTICEABLE:
        first = f"{SHIPPED} loses {_points(shipped['drop'])} against FP32: do not ship it unseen."
    else:
        first = f"Ship {SHIPPED} ({directory}/{SHIPPED}): it keeps FP32's accuracy."
    return (
        f"{first} {_flips(shipped)}. It is {factor(shipped['speedup'])} times as fast as FP32, and "
        f"takes 1/{size:.1f} of the disk space. {shipped['int8_executed']} of "
        f"{shipped['int8_planned']} planned GEMMs ran in INT8, "
        f"{percent(shipped['int8_share'])} of the work."
    )


def _flips(row: DemoRow) -> str:
    if not row["flipped"]:
        return f"No answer of {row['n']} changes"
    return changed(row["flipped"], row["n"])


def _against_dynamic(shipped: DemoRow, dynamic: DemoRow) -> str:
    """Whether the answer to a row depends on the rows beside it, as measured."""
    own, other = shipped["neighbours"], dynamic["neighbours"]
    assert own is not None and other is not None  # `run_demo` looks at both
    if not other["max_abs_diff"]:
        return (
            f"{DYNAMIC} finds its ranges at run time, over the whole batch. Here that changes no "
            "answer, whatever rows stand beside a row."
        )
    text = (
        f"Why not {DYNAMIC}? It finds its ranges at run time, over the whole batch. So its answer "
        f"to a row depends on the rows beside it. In other company, the logits of {other['rows']} "
        f"rows move by up to {logit_difference(other['max_abs_diff'])}, and {_answers(other)}."
    )
    if not own["max_abs_diff"]:
        return f"{text} With {SHIPPED} not a bit changes."
    return (
        f"{text} With {SHIPPED} they move by up to {logit_difference(own['max_abs_diff'])}, and "
        f"{_answers(own)}."
    )


def _answers(found: Change) -> str:
    if not found["flipped"]:
        return "no answer changes"
    return changed(found["flipped"])


def _collapse(victim: DemoRow, remedy: DemoRow) -> str:
    text = (
        "The collapse: BERT-base on QNLI falls from 89.66 to 54.33 % when every activation has one "
        f"scale per tensor (arXiv 2603.04308). Here that plan is {VICTIM}"
    )
    lost, left = victim["drop"], remedy["drop"]
    if lost < _NOTICEABLE:
        return f"{text}, and it loses {_points(lost)}: nothing broke that could be mended."
    text = f"{text}: it loses {_points(lost)}."
    if victim["constant_predictor"]:
        text += " It gives every row the same answer."
    if left >= lost:
        return f"{text} {REMEDY} does not mend it ({_points(left)} lost)."
    share = 100 * min((lost - left) / lost, 1.0)
    return f"{text} Four groups of channels with a scale each ({REMEDY}) bring {share:.0f} % back."


def _busy(spread: float) -> str:
    return (
        f"This machine was busy: slow rounds of FP32 took {spread:.2f} times as long as fast ones "
        f"(more than {BUSY:g}). The times are rough. Run the demo again when nothing else runs."
    )


def _points(fraction: float) -> str:
    return f"{points(max(fraction, 0.0), signed=False)} points"
