"""Rows that an engine keeps beside it, to be run again where it serves.

They are made of the embedded sentences, never of the rows that calibrated: an engine is given away,
and its owner's texts could be read back from their tokens (docs/adr/0040).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qdeploy.calibrate.batches import Sample
from qdeploy.data.batches import Encoded
from qdeploy.data.mini import NAME as MINI
from qdeploy.data.rows import Rows, read_rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.schemas.canary import CanaryText

# Attention of a row of 8,192 tokens takes half a minute on two cores. Beyond 512 tokens, the limit
# of BERT, an engine has no other kernels.
_LONGEST = 512
_SHORT, _SHORTER = 48, 32  # tokens of the longest row of a batch of 4, and of 8
_WIDER = 5  # columns of padding alone, in one batch
_TEXT_TOKENS = 64
# What tokenizers treat differently: case, accents, digits, punctuation, other scripts, unknown
# characters, blanks, a word that is none.
TEXTS: tuple[tuple[str, str | None], ...] = (
    ("The quick brown Fox doesn't jump over 13 lazy dogs.", None),
    ("Où est la bibliothèque? ÜBER-große Maße, 1.234,56 €", "It's at 221B Baker Street (London)."),
    ("Москва – столица России; 東京は日本の首都です。", None),
    ("  \tblanks\n and 🙂 signs ½ ﬁ ①  ", "https://example.org/a_b?c=d&e=%20#f"),
    ("antidisestablishmentarianism zzzqqqxxjv", None),
)


@dataclass(frozen=True)
class Taken:
    """What an engine takes: tokens of a row, and rows of a run."""

    shortest: int = 1
    longest: int = _LONGEST
    fewest: int = 1
    most: int = sys.maxsize


@dataclass(frozen=True)
class CanaryRows:
    """Batches, and texts with their tokens."""

    sample: Sample
    texts: list[CanaryText]


def canary_rows(directory: Path, taken: Taken) -> CanaryRows:
    """16 rows in batches of 1, 1, 2, 4 and 8, from the shortest to the longest that are taken.

    They are the same for the same tokenizer: nothing in them is random.

    Args:
        directory: model or engine directory, whose tokenizer reads them.
        taken: by the engine; rows are repeated where it takes more alone.
    """
    encoder = TextEncoder.from_directory(directory)
    least = max(encoder.least_tokens(pair=False), taken.shortest)
    longest = max(min(encoder.max_length, taken.longest, _LONGEST), least)
    groups = [
        [longest],
        [least],
        [max(longest // 4, least), least + 2],
        _rising(least, min(_SHORT, longest), 4),
        _rising(least, min(_SHORTER, longest), 8),
    ]
    sentences = read_rows(MINI, split="calibration")
    batches, at = [], 0
    for group in groups:
        lengths = [min(length, longest) for length in group]
        for start in range(0, len(lengths), taken.most):
            rows = [
                _row(encoder, sentences, at + place, length)
                for place, length in enumerate(lengths[start : start + taken.most])
            ]
            at += len(rows)
            rows = (rows * taken.fewest)[: max(len(rows), taken.fewest)]
            batches.append(_batch(encoder, rows, longest, wider=_WIDER * (len(group) == 4)))
    count = sum(len(next(iter(batch.values()))) for batch in batches)
    return CanaryRows(Sample(MINI, count, tuple(batches)), _texts(encoder))


def _rising(least: int, most: int, count: int) -> list[int]:
    """Lengths from the least to the most, each so many times the one before."""
    return [round(length) for length in np.geomspace(least, max(least, most), count)]


def _row(encoder: TextEncoder, sentences: Rows, at: int, tokens: int) -> Encoded:
    """One row of as many tokens; every third is one text, the others are pairs."""
    pair = not encoder.one_text and at % 3 != 1 and tokens > encoder.least_tokens(pair=True)
    count = len(sentences)
    # a token of any vocabulary stands for a quarter of a word at least
    picked = [sentences.first[(at + step) % count] for step in range(max(2, tokens // 2))]
    second = sentences.second or sentences.first
    row = replace(
        sentences.select([at % count]),
        first=(second[at % count] if pair else " ".join(picked),),
        second=(" ".join(picked),) if pair else None,
    )
    return encoder.encode(row, tokens, prompt="")


def _batch(
    encoder: TextEncoder, rows: Sequence[Encoded], longest: int, *, wider: int
) -> dict[str, np.typing.NDArray[np.generic]]:
    tokens = {name: [row.tokens[name][0] for row in rows] for name in encoder.input_names}
    lengths = np.concatenate([row.lengths for row in rows])
    whole = Encoded(tokens, lengths, 0, longest)
    width = min(int(lengths.max()) + wider, longest)
    return next(encoder.batches(whole, len(rows), sort=False, pad_to=width)).feeds


def _texts(encoder: TextEncoder) -> list[CanaryText]:
    """`TEXTS` with their tokens, as the model reads them."""
    pairs = not encoder.one_text and _limit(encoder) >= encoder.least_tokens(pair=True)
    found: list[CanaryText] = []
    for first, second in TEXTS:
        text: CanaryText = {"first": first, "input_ids": []}
        if second is not None and pairs:
            text["second"] = second
        found.append({**text, "input_ids": tokens_of(encoder, text)})
    return found


def tokens_of(encoder: TextEncoder, text: CanaryText) -> list[int]:
    """The tokens of a text, special ones included; the first 64 where there are more.

    Raises:
        DataError: one of them has no row in the model.
    """
    second = text.get("second")
    rows = Rows((text["first"],), None if second is None else (second,), None, "canary.json", (0,))
    ids: list[int] = encoder.encode(rows, _limit(encoder)).tokens["input_ids"][0].tolist()
    return ids


def _limit(encoder: TextEncoder) -> int:
    return min(encoder.max_length, _TEXT_TOKENS)
