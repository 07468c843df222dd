"""How many tokens of a row are kept, how many rows that cuts, and sets of rows of other lengths."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qdeploy.errors import PlanError
from qdeploy.figures import part, row_tokens
from qdeploy.schemas.manifest import Lengths
from qdeploy.types import Array

# Tokens of a row where no limit is named: what BERT and most encoders take (Devlin et al. 2019,
# arXiv 1810.04805). Attention costs S², so that a model of 8192 tokens gets them on request only.
USUAL_LIMIT = 512
# Two sets differ where a quantile of one is this many times the other's and as many tokens away,
# and chance does not explain it.
_RATIO, _TOKENS, _CHANCE = 1.5, 8, 0.01
_QUANTILES = {"median": 0.5, "p95": 0.95}


@dataclass(frozen=True)
class RowLengths:
    """Tokens of a set of rows, special tokens included.

    Attributes:
        kept: tokens of each row after the cut [N].
        truncated: rows that were cut.
        max_length: tokens at which they were.
    """

    kept: tuple[int, ...]
    truncated: int
    max_length: int

    @property
    def share(self) -> float:
        """Share of the rows that were cut, 0 … 1."""
        return self.truncated / max(len(self.kept), 1)

    def summary(self) -> dict[str, float]:
        """Mean, median, 95th percentile and largest number of tokens of a row."""
        if not self.kept:
            return {}
        found = {"mean": round(float(np.mean(self.kept)), 1)}
        for name, at in _QUANTILES.items():
            found[name] = _quantile(np.array(self.kept), at)
        return found | {"max": max(self.kept)}

    def to_json(self) -> Lengths:
        """For manifests and reports."""
        return {
            "max_length": self.max_length,
            "truncated": self.truncated,
            "truncated_share": round(self.share, 6),
            "lengths": self.summary(),
        }


def row_limit(longest: int, wanted: int | None, taker: str = "the model") -> int:
    """Tokens kept of a row: the model's own limit and at most 512, or what was asked for.

    Args:
        longest: tokens that the model takes.
        wanted: --max-length; None where it was left out.
        taker: who takes so many, for the text.

    Raises:
        PlanError: more than the model takes.

    >>> row_limit(8192, None), row_limit(128, None), row_limit(8192, 1024)
    (512, 128, 1024)
    """
    if wanted is None:
        return min(longest, USUAL_LIMIT)
    check_whole("--max-length", wanted)
    if wanted > longest:
        raise PlanError(
            f"--max-length is {wanted}, and {taker} takes at most {longest} tokens. Give "
            f"{longest} or less, or leave it out."
        )
    if wanted < 1:
        raise PlanError(f"--max-length is {wanted}, and at least 1 is needed.")
    return wanted


def check_whole(name: str, tokens: object) -> None:
    """Refuse a limit that is no number of tokens.

    Raises:
        PlanError: with its name.
    """
    if isinstance(tokens, bool) or not isinstance(tokens, int | np.integer):
        raise PlanError(f"{name} is {tokens!r}, and a whole number of tokens was expected.")


def cut_text(
    lengths: RowLengths, what: str, longest: int, wanted: int | None, taker: str = "the model"
) -> str | None:
    """A warning that rows were cut, with the cause and the way out; None where none was.

    Args:
        lengths: of the rows.
        what: whose rows they are: "calibration" or "evaluation".
        longest, wanted, taker: of `row_limit`.
    """
    if not lengths.truncated:
        return None
    limit = lengths.max_length
    fact = (
        f"{lengths.truncated} of {len(lengths.kept)} {what} rows ({part(lengths.share)}) have "
        f"more than {limit} tokens and were cut there: "
    )
    if limit >= longest:
        return fact + (
            f"{taker} takes no more. Longer texts are cut in production too: split them, or take a "
            "model for longer ones."
        )
    reason = "it is the limit where none is named" if wanted is None else "--max-length says so"
    return fact + (
        f"{reason}. `predict` does not cut there. {taker.capitalize()} takes {longest} tokens: "
        f"raise the limit with --max-length, up to {longest}."
    )


def difference_text(calibration: RowLengths, evaluation: RowLengths) -> str | None:
    """A warning that engines were calibrated on rows of other lengths than these; None if not.

    The median or the 95th percentile of the one set is 1.5 times that of the other or more, by 8
    tokens or more, and the counts of rows above it differ by more than chance: Fisher's exact test
    of the two sets against the quantile of both together, p below 0.01 over the four counts made.
    """
    if not calibration.kept or not evaluation.kept:
        return None
    ours, theirs = np.array(calibration.kept), np.array(evaluation.kept)
    if not any(_apart(ours, theirs, at) for at in _QUANTILES.values()):
        return None
    return (
        f"The rows that calibrated the engine have other lengths ({_span(calibration)}) than the "
        f"evaluation's ({_span(evaluation)}): its ranges may not fit these texts. Calibrate on "
        "rows like those of production, with the same --max-length."
    )


def _apart(ours: Array, theirs: Array, at: float) -> bool:
    """Whether one quantile of two sets of lengths differs, by its size and beyond chance."""
    low, high = sorted((_quantile(ours, at), _quantile(theirs, at)))
    if high < _RATIO * low or high - low < _TOKENS:
        return False
    edge = _quantile(np.concatenate([ours, theirs]), at)
    # lengths are whole numbers: where many lie on the edge, rows from it up are the ones to count
    counts = ((ours > edge, theirs > edge), (ours >= edge, theirs >= edge))
    allowed = _CHANCE / (len(counts) * len(_QUANTILES))
    return any(fisher_p(int(a.sum()), len(a), int(b.sum()), len(b)) < allowed for a, b in counts)


def fisher_p(first: int, of_first: int, second: int, of_second: int) -> float:
    """Two-sided p of Fisher's exact test: `first` of `of_first` against `second` of `of_second`.

    Twice the smaller tail of the hypergeometric distribution, at most 1.

    >>> round(fisher_p(8, 8, 0, 8), 6)
    0.000155
    """
    hits, every = first + second, of_first + of_second

    def log_chance(k: int) -> float:
        return (
            _log_choose(of_first, k) + _log_choose(of_second, hits - k) - _log_choose(every, hits)
        )

    low, high = max(0, hits - of_second), min(hits, of_first)
    below = math.fsum(math.exp(log_chance(k)) for k in range(low, first + 1))
    above = math.fsum(math.exp(log_chance(k)) for k in range(first, high + 1))
    return min(1.0, 2 * min(below, above))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _quantile(lengths: Array, at: float) -> int:
    """A length that occurs: the smallest that so many rows do not exceed."""
    return int(np.quantile(lengths, at, method="inverted_cdf"))


def _span(lengths: RowLengths) -> str:
    figures = lengths.summary()
    cut = f", {part(lengths.share)} cut at {lengths.max_length}" if lengths.truncated else ""
    quantiles = {name: figures[name] for name in _QUANTILES}
    return f"{row_tokens(quantiles)} tokens{cut}"
