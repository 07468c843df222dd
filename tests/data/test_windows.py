"""Windows of long contexts, token by token as transformers' tokenizers cut them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from qdeploy.data.rows import Rows
from qdeploy.data.texts import rows_from_texts
from qdeploy.data.tokenize import TextEncoder
from qdeploy.data.windows import STRIDE, WINDOW, spans_of, window_limit
from qdeploy.errors import DataError, PlanError
from tests import manifests
from tests.data.test_tokenize import model_directory
from tests.tiny import FAMILIES, MAX_LENGTH, tiny_tokenizer


def pairs(seed: int = 0) -> Rows:
    """Short questions, and contexts of a few to some hundred tokens."""
    rng = random.Random(seed)
    words = ["river", "city", "king", "1843,", "what", "", "Ada's", "né́", "漢字", "🙂", "north\tx"]
    found = [
        (" ".join(rng.choices(words, k=rng.randint(1, 3))),
         "y " + " ".join(rng.choices(words, k=rng.choice([1, 5, 40, 150]))))
        for _ in range(24)
    ]  # fmt: skip
    return rows_from_texts(found)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("limit", "stride"), [(48, 8), (MAX_LENGTH, 40), (64, 0)])
def test_equal_to_transformers(family: str, limit: int, stride: int, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    directory = model_directory(tmp_path / "model", tiny_tokenizer(family))
    compare(TextEncoder.from_directory(directory), AutoTokenizer.from_pretrained(directory),
            limit, stride)  # fmt: skip


def test_windows_from_the_end(tmp_path: Path) -> None:
    """Of a tokenizer that cuts off the left."""
    from transformers import AutoTokenizer

    directory = model_directory(tmp_path / "model", tiny_tokenizer("bert"))
    path = directory / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation_side": "left"}))
    manifests.sign(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    assert tokenizer.truncation_side == "left"
    compare(TextEncoder.from_directory(directory), tokenizer, 48, 8)


def compare(encoder: TextEncoder, tokenizer: object, limit: int, stride: int) -> None:
    rows = pairs()
    assert rows.second is not None and callable(tokenizer)
    expected = tokenizer(
        list(rows.first),
        list(rows.second),
        truncation="only_second",
        max_length=limit,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    found = encoder.windows(rows, limit, stride)
    assert len(found.encoded) > len(rows) + 10, "some contexts are in several windows"
    for name in encoder.input_names:
        assert [tokens.tolist() for tokens in found.encoded.tokens[name]] == expected[name]
    assert found.rows.tolist() == expected["overflow_to_sample_mapping"]
    assert found.encoded.lengths.tolist() == list(map(len, expected["input_ids"]))
    assert found.encoded.truncated == 0 and found.encoded.max_length == limit
    for at, (start, places) in enumerate(zip(found.starts, found.places, strict=True)):
        own = [i for i, place in enumerate(expected.sequence_ids(at)) if place == 1]
        assert own == list(range(start, start + len(places)))
        assert places.tolist() == [list(expected["offset_mapping"][at][i]) for i in own]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    directory = tmp_path_factory.mktemp("encoder") / "model"
    return TextEncoder.from_directory(model_directory(directory, tiny_tokenizer("bert")))


def test_a_stride_that_is_left_out(encoder: TextEncoder) -> None:
    """128, as transformers' example has it, and half of a window where that is less."""
    rows = rows_from_texts([("who", "river " * 300)])
    room = MAX_LENGTH - 4  # [CLS] who [SEP] … [SEP]
    assert room // 2 < STRIDE
    halves = encoder.windows(rows)
    assert halves.places[1][0].tolist() == halves.places[0][room - room // 2].tolist()
    np.testing.assert_array_equal(
        halves.encoded.lengths, encoder.windows(rows, MAX_LENGTH, room // 2).encoded.lengths
    )


def test_every_token_is_in_a_window() -> None:
    for count, room, stride in ((1, 3, 0), (7, 3, 1), (100, 9, 8), (9, 9, 3), (10, 9, 3)):
        for left in (False, True):
            found = spans_of(count, room, stride, left=left)
            assert {i for span in found for i in range(*span)} == set(range(count))
            assert all(end - start <= room for start, end in found)


def test_texts_that_no_window_takes(encoder: TextEncoder) -> None:
    long = rows_from_texts([("who", "a river"), ("why " * 300, "a river")])
    with pytest.raises(DataError, match=r"Row 2: the question has \d+ tokens.*no room"):
        encoder.windows(long)
    with pytest.raises(DataError, match=r"Row 1: a window of 20 .*holds 16 .*overlap in 16"):
        encoder.windows(rows_from_texts([("who", "a river")]), 20, 16)
    with pytest.raises(DataError, match="Row 1: the context has no tokens"):
        encoder.windows(rows_from_texts([("who", "\u200b")]))
    with pytest.raises(DataError, match="the model takes at most 128"):
        encoder.windows(rows_from_texts([("who", "a river")]), 500)


def test_the_limit_of_a_window() -> None:
    assert window_limit(8192, None) == WINDOW
    assert window_limit(512, 512) == 512
    with pytest.raises(PlanError, match="--max-length is 600"):
        window_limit(512, 600)
