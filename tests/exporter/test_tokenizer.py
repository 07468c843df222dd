"""Tokenizers: converted, checked against the model, and the length that the model takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import transformers
from tokenizers import Tokenizer

from qdeploy.errors import CheckpointError, QDeployWarning
from qdeploy.exporter.checkpoint import find_checkpoint
from qdeploy.exporter.tokenizer import (
    check_types,
    check_vocabulary,
    embedding_rows,
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
    assert pad_token_id(tokenizer, embedding_rows(model), model.config.pad_token_id) == 1
    tokenizer.pad_token = None
    assert pad_token_id(tokenizer, embedding_rows(model), model.config.pad_token_id) == 0


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
        check_vocabulary(load_tokenizer(checkpoint), embedding_rows(model), checkpoint.tokenizer)


def test_saved_file_holds_no_padding_and_no_truncation(bert: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(find_checkpoint(bert))
    tokenizer(["a", "b c"], padding="max_length", truncation=True, max_length=16)
    save_tokenizer(tokenizer, tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    assert (saved["padding"], saved["truncation"]) == (None, None)


def test_added_tokens_without_a_row_are_named(bert: Path) -> None:
    checkpoint = find_checkpoint(bert)
    tokenizer, model = load_tokenizer(checkpoint), model_of("bert")
    check_vocabulary(tokenizer, embedding_rows(model), checkpoint.tokenizer)
    tokenizer.add_tokens([f"<t{at}>" for at in range(512 - len(tokenizer) + 7)])
    with pytest.warns(
        QDeployWarning, match="7 tokens of .* have no row in .* 512 emb.* and 2 more"
    ):
        check_vocabulary(tokenizer, embedding_rows(model), checkpoint.tokenizer)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(515)
    with pytest.raises(CheckpointError, match=r"<t\d+> stands in every batch, so none can run"):
        check_vocabulary(tokenizer, embedding_rows(model), checkpoint.tokenizer)
    with pytest.raises(CheckpointError, match="padding token 515 has no row"):
        pad_token_id(tokenizer, embedding_rows(model), model.config.pad_token_id)


def test_types_are_left_out_where_the_model_has_one(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer("bert")
    config = tiny_config("bert", type_vocab_size=1)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    assert model_inputs(tokenizer, model) == ("input_ids", "attention_mask")


def test_types_that_the_model_has_no_row_for() -> None:
    tokenizer = tiny_tokenizer("bert")
    text = tokenizer.backend_tokenizer.to_str().replace('"type_id":1', '"type_id":2')
    other = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(text),
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    check_types(tokenizer, ("token_type_ids",), model_of("bert").config.type_vocab_size)
    with pytest.raises(
        CheckpointError, match=r"types up to 2, and the model embeds 2 \(type_vocab"
    ):
        check_types(other, ("token_type_ids",), model_of("bert").config.type_vocab_size)


def test_mask_is_taken_from_a_tokenizer_that_does_not_list_it() -> None:
    tokenizer = tiny_tokenizer("distilbert")
    tokenizer.model_input_names = ["input_ids"]
    assert model_inputs(tokenizer, model_of("distilbert")) == ("input_ids", "attention_mask")


def test_tokenizer_that_wants_more_than_text(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def boxes(self: object, *texts: str) -> None:
        raise ValueError("You must provide corresponding bounding boxes")

    monkeypatch.setattr(transformers.PreTrainedTokenizerBase, "__call__", boxes)
    with pytest.raises(CheckpointError, match="does not encode a plain pair of texts: You must"):
        load_tokenizer(find_checkpoint(bert))
