"""How families of encoders count positions, by config.json: most from 0, some behind their padding.

RoBERTa counts real tokens from the number of its padding token on (fairseq's `make_positions`), so
that its table of positions has rows that no token gets. Read from transformers 5.23 by running each
family (tests/exporter/test_position_counts.py).
"""

from __future__ import annotations

from collections.abc import Mapping

_NO_LIMIT = 1_000_000  # rows; no table of positions is as long
# `model_type` → number of the padding token where config.json leaves it out.
_BEHIND_PADDING: Mapping[str, int | None] = {
    "camembert": 1,
    "data2vec-text": 1,
    "esm": None,
    "ibert": 1,
    "lilt": 0,
    "longformer": 1,
    "luke": 1,
    "markuplm": 0,
    "mpnet": 1,
    "roberta": 1,
    "roberta-prelayernorm": 1,
    "xlm-roberta": 1,
    "xlm-roberta-xl": 1,
    "xmod": 1,
}
_FIXED = ("mpnet",)  # whose code has the number, whatever config.json says


def counted_from(config: Mapping[str, object]) -> int | None:
    """The padding token behind which a family's positions start; None where they start at 0.

    Args:
        config: content of config.json.

    >>> counted_from({"model_type": "longformer", "pad_token_id": 1}), counted_from({})
    (1, None)
    """
    family = config.get("model_type")
    if not isinstance(family, str) or family not in _BEHIND_PADDING:
        return None
    usual = _BEHIND_PADDING[family]
    if family in _FIXED or "pad_token_id" not in config:
        return usual
    return _number(config["pad_token_id"])


def tokens_at_most(config: Mapping[str, object]) -> int | None:
    """Tokens of a row that the table of positions suffices for; None where none is known.

    >>> tokens_at_most({"model_type": "ibert", "max_position_embeddings": 514, "pad_token_id": 1})
    512
    """
    rows = _number(config.get("max_position_embeddings", config.get("n_positions")))
    if rows is None or not 0 < rows < _NO_LIMIT:
        return None
    padding = counted_from(config)
    return rows if padding is None else rows - padding - 1


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
