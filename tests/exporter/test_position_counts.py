"""How transformers itself counts positions, by family, against what is read of config.json."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from qdeploy.position_counts import _BEHIND_PADDING, _FIXED, counted_from, tokens_at_most

ROWS = 40  # of the table of positions
SIZES: dict[str, Any] = {
    **{"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1},
    **{"num_attention_heads": 2, "vocab_size": 30, "max_position_embeddings": ROWS},
    **{"attention_window": 4, "entity_vocab_size": 4, "entity_emb_size": 4},
    **{"languages": ["en_XX"], "default_language": "en_XX", "max_2d_position_embeddings": 8},
    **{"xpath_unit_hidden_size": 4, "max_depth": 2, "channel_shrink_ratio": 1},
    **{"quant_mode": False, "mask_token_id": 5},
}
FROM_ZERO = ("bert", "electra", "distilbert", "mobilebert", "roformer", "big_bird", "convbert")


def positions(family: str, padding: int) -> tuple[dict[str, Any], list[int]]:
    """A configuration, and the positions that a model of it gives to a row of 5 tokens of 7."""
    config = transformers.AutoConfig.for_model(family, **SIZES, pad_token_id=padding)
    model: Any = transformers.AutoModel.from_config(config).eval()
    ids = torch.tensor([[7, 8, 9, 10, 11, padding, padding]])
    seen: list[Any] = []
    tables = [m for name, m in model.named_modules() if name.endswith(".position_embeddings")]
    tables[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    more: dict[str, Any] = {"token_type_ids": torch.zeros_like(ids)} if family == "luke" else {}
    with torch.no_grad():
        model.embeddings(input_ids=ids, **more)
    return config.to_dict(), seen[0].expand(1, -1)[0, :5].tolist()


@pytest.mark.parametrize("padding", [1, 3])
@pytest.mark.parametrize("family", [*_BEHIND_PADDING, *FROM_ZERO[:3]])
def test_positions_start_where_transformers_starts_them(family: str, padding: int) -> None:
    config, found = positions(family, padding)
    start = counted_from(config)
    first = 0 if start is None else start + 1
    assert found == list(range(first, first + 5))
    assert (start is None) == (family in FROM_ZERO)
    assert tokens_at_most(config) == ROWS - first


@pytest.mark.parametrize("family", [f for f in _BEHIND_PADDING if f not in _FIXED])
def test_a_configuration_without_padding_has_the_familys_own(family: str) -> None:
    config = transformers.AutoConfig.for_model(family)
    assert counted_from({"model_type": family}) == config.pad_token_id


@pytest.mark.parametrize("family", FROM_ZERO)
def test_other_families_count_from_zero(family: str) -> None:
    assert counted_from({"model_type": family, "pad_token_id": 1}) is None


@pytest.mark.parametrize("rows", [None, 0, -1, 10**30, True, "512", 1.5])
def test_tables_that_are_none(rows: object) -> None:
    assert tokens_at_most({"model_type": "bert", "max_position_embeddings": rows}) is None


def test_what_is_no_family() -> None:
    for family in (None, 1, ["roberta"], "my-roberta-of-another-kind"):
        assert counted_from({"model_type": family, "pad_token_id": 1}) is None
    assert counted_from({"model_type": "roberta", "pad_token_id": None}) is None
    assert tokens_at_most({"model_type": "gpt", "n_positions": 64}) == 64
