"""Tokenizers: converted, checked against the model, and the length that the model takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from tokenizers import Tokenizer

from qdeploy.errors import CheckpointError
from qdeploy.exporter.checkpoint import find_checkpoint
from qdeploy.exporter.tokenizer import (
    check_vocabulary,
    length_limit,
    load_tokenizer,
    model_inputs,
    pad_token_id,
    save_tokenizer,
)
from qdeploy.exporter.verify import verify_tokenizer
from tests.tiny import FAMILIES, MAX_LENGTH, tiny_config, tiny_tokenizer


def model_of(family: str) -> transformers.PreTrainedModel:
    config = tiny_config(family)
    return transformers.AutoModelForSequenceClassification.from_config(config)


@pytest.mark.parametrize("family", FAMILIES)
def test_length_is_the_positions_that_tokens_can_take(family: str) -> None:
    tokenizer = tiny_tokenizer(family)
    tokenizer.model_max_length = 10**30  # what transformers says when it does not know
    assert length_limit(tokenizer, model_of(family)) == MAX_LENGTH
    tokenizer.model_max_length = 64
    assert length_limit(tokenizer, model_of(family)) == 64


def test_position_beyond_the_length_is_out_of_range() -> None:
    """The offset is real: one token more has no position in RoBERTa's table."""
    import torch

    model = model_of("roberta").eval()
    model(input_ids=torch.full((1, MAX_LENGTH), 7))
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, MAX_LENGTH + 1), 7))


def test_inputs_are_those_that_both_sides_know() -> None:
    for family, types in (("bert", True), ("roberta", False), ("deberta-v2", False)):
        names = model_inputs(tiny_tokenizer(family), model_of(family))
        expected = ("input_ids", "attention_mask", "token_type_ids")
        assert names == (expected if types else expected[:2])


def test_padding_token() -> None:
    model, tokenizer = model_of("bert"), tiny_tokenizer("roberta")
    assert pad_token_id(tokenizer, model) == 1
    tokenizer.pad_token = None
    assert pad_token_id(tokenizer, model) == 0


def test_vocabulary_file_is_converted(damaged: Path, tmp_path: Path) -> None:
    """A checkpoint of the old kind: vocab.txt and the name of the class, no tokenizer.json."""
    vocabulary = json.loads((damaged / "tokenizer.json").read_text())["model"]["vocab"]
    (damaged / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    (damaged / "tokenizer.json").unlink()
    (damaged / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    tokenizer = load_tokenizer(find_checkpoint(damaged))
    save_tokenizer(tokenizer, tmp_path)
    tokens = Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("What is", "river").tokens
    assert tokens == ["[CLS]", "what", "is", "[SEP]", "river", "[SEP]"]
    assert verify_tokenizer(tokenizer, tmp_path / "tokenizer.json", ["input_ids"]) > 100


def test_broken_tokenizer(damaged: Path) -> None:
    (damaged / "tokenizer.json").write_text('{"model": 1}')
    with pytest.raises(CheckpointError, match=r"tokenizer of .* cannot be loaded.*Save it with"):
        load_tokenizer(find_checkpoint(damaged))


def test_sentencepiece_model_that_cannot_be_converted(damaged: Path) -> None:
    (damaged / "tokenizer.json").unlink()
    (damaged / "spm.model").write_bytes(b"not a model")
    (damaged / "tokenizer_config.json").write_text('{"tokenizer_class": "DebertaV2Tokenizer"}')
    with pytest.raises(CheckpointError, match="pip install sentencepiece"):
        load_tokenizer(find_checkpoint(damaged))


def test_tokenizer_without_a_fast_form(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        is_fast = False

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *a, **k: Slow())
    with pytest.raises(CheckpointError, match=r"\(Slow\) has no fast form, so no tokenizer.json"):
        load_tokenizer(find_checkpoint(bert))


def test_tokenizer_of_another_model(bert: Path) -> None:
    model = model_of("bert")
    model.resize_token_embeddings(100)
    checkpoint = find_checkpoint(bert)
    with pytest.raises(CheckpointError, match=r"has \d+ tokens, and the model embeds 100"):
        check_vocabulary(load_tokenizer(checkpoint), model, checkpoint)


def test_saved_file_holds_no_padding_and_no_truncation(bert: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(find_checkpoint(bert))
    tokenizer(["a", "b c"], padding="max_length", truncation=True, max_length=16)
    save_tokenizer(tokenizer, tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    assert (saved["padding"], saved["truncation"]) == (None, None)
