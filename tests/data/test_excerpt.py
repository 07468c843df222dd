"""GroupedGemm of long texts against the whole ones: the tokens that are kept are the same."""

from __future__ import annotations

import functools
import random
import string
from collections.abc import Callable
from typing import Any

import pytest

from qdeploy.data import Rows, rows_from_texts
from qdeploy.data import excerpt as module
from qdeploy.data.excerpt import Excerpts, is_long
from qdeploy.data.tokenize import TextEncoder
from qdeploy.data.tokenizer_files import TokenizerFacts
from tests.tiny import tiny_tokenizer

FAMILIES = ("bert", "roberta", "xlm-roberta")  # WordPiece, byte-level BPE, Unigram
WORDS = "the river of war who Energy x1 naïve don't 漢字 ﬁne [SEP] <s> e\u0301te\u0301 42"


def words(rng: random.Random, size: int, between: str = " ") -> str:
    return between.join(rng.choices(WORDS.split(), k=size // 4))[:size]


def letters(rng: random.Random, size: int, alphabet: str = string.ascii_letters) -> str:
    return "".join(rng.choices(alphabet, k=size))


KINDS: dict[str, Callable[[random.Random, int], str]] = {
    "words": words,
    "lines": lambda rng, size: words(rng, size, ".\n\n"),
    "odd spaces": lambda rng, size: words(rng, size, " \t\u3000 \xa0"),
    "one word": letters,
    "one word, repeated": lambda _, size: "ab" * (size // 2),
    "digits": lambda rng, size: letters(rng, size, string.digits),
    "marks": lambda rng, size: letters(rng, size, ".,!?'\"-"),
    "ideographs": lambda rng, size: letters(rng, size, "漢字仮名交文。"),
    "accents": lambda rng, size: letters(rng, size, "ae\u0301\u0308\u0327 o\u200d🙂"),
    "spaces": lambda _, size: " " * size,
    "spaces between": lambda _, size: ("river" + " " * 5000) * (size // 5005),
    "a long word first": lambda rng, size: letters(rng, size // 2) + " " + words(rng, size // 2),
    "a long word last": lambda rng, size: words(rng, size // 2) + " " + letters(rng, size // 2),
    "marking tokens": lambda rng, size: "".join(
        rng.choices(["[SEP]", "<s>", " ", "a"], k=size // 3)
    ),
    "anything": lambda rng, size: "".join(
        chr(rng.choice((rng.randrange(1, 0xD800), rng.randrange(0xE000, 0x11000), 32, 10)))
        for _ in range(size)
    ),
}


@functools.cache
def encoder_of(family: str, side: str = "right", **added: Any) -> tuple[TextEncoder, Any]:
    """An encoder, and its tokenizer as it is without truncation."""
    tokenizers = [tiny_tokenizer(family) for _ in range(2)]
    for tokenizer in tokenizers:
        if added:
            from tokenizers import AddedToken

            tokenizer.backend_tokenizer.add_tokens([AddedToken(**added)])
    names = tuple(tokenizers[0].model_input_names)
    encoder = TextEncoder(
        tokenizers[0].backend_tokenizer, TokenizerFacts(names, 512, truncation_side=side)
    )
    return encoder, tokenizers[1].backend_tokenizer


@functools.cache
def ids_of(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def expected(tokenizer: Any, texts: tuple[str, ...], limit: int, side: str) -> list[int]:
    """Ids of one or two texts, tokenized whole and then cut as `longest_first` cuts."""
    ids = [ids_of(tokenizer, text) for text in texts]
    room = limit - tokenizer.num_special_tokens_to_add(len(texts) == 2)
    counts = [len(found) for found in ids]
    if sum(counts) > room and len(ids) == 1:
        counts = [room]
    elif sum(counts) > room:
        short = 0 if counts[0] <= counts[1] else 1
        least = counts[short]
        if least + max(least, room - least) > room:
            counts[short], counts[1 - short] = room // 2, room - room // 2
        else:
            counts[1 - short] = room - least
    kept = [
        found[len(found) - count :] if side == "left" else found[:count]
        for found, count in zip(ids, counts, strict=True)
    ]
    frame = tokenizer.encode(*"ab"[: len(texts)])
    whole: list[int] = []
    for at, sequence in enumerate(frame.sequence_ids):
        if sequence is None:
            whole.append(frame.ids[at])
        elif at == frame.sequence_ids.index(sequence):
            whole += kept[sequence]
    return whole


def encoded(encoder: TextEncoder, rows: Rows, limit: int) -> list[list[int]]:
    return [tokens.tolist() for tokens in encoder.encode(rows, limit).tokens["input_ids"]]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_text_has_the_tokens_of_the_whole(family: str, kind: str, side: str) -> None:
    encoder, tokenizer = encoder_of(family, side)
    rng = random.Random(f"{family} {kind}")  # the same for both sides: `ids_of` keeps them
    texts = [KINDS[kind](rng, size) for size in (4_000, 30_000)]
    for limit in (16, 128):
        found = encoded(encoder, rows_from_texts(texts), limit)
        assert found == [expected(tokenizer, (text,), limit, side) for text in texts]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("limit", [64, 65])
def test_pairs_share_the_tokens_as_the_whole_ones_do(family: str, side: str, limit: int) -> None:
    """With an odd token to give, it goes to the text that has more of them, long as both are."""
    encoder, tokenizer = encoder_of(family, side)
    rng = random.Random(family)
    long = [KINDS[kind](rng, 7_000) for kind in ("words", "lines", "one word", "ideographs")]
    long += [long[0], long[0] + " river", long[1][:6_500], "the river " * 30, "who"]
    pairs = [(first, second) for first in long for second in long]
    found = encoded(encoder, rows_from_texts(pairs), limit)
    for pair, ids in zip(pairs, found, strict=True):
        assert ids == expected(tokenizer, pair, limit, side), [text[:20] for text in pair]


def test_counts_in_windows_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WINDOW", 4000)
    for family in FAMILIES:
        encoder, tokenizer = encoder_of(family)
        for kind, make in KINDS.items():
            text = make(random.Random(kind), 20_000)
            whole = len(tokenizer.encode(text, add_special_tokens=False))
            assert encoder._excerpts._count(text) == whole, (family, kind)
            assert (encoder._excerpts._count(text, whole // 2) > whole // 2) == (whole > 0)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "added",
    [
        {"content": "<mask>", "lstrip": True, "rstrip": True},
        {"content": "the the"},
        {"content": "river", "single_word": True},
        {"content": "e", "normalized": True},
        {"content": "x" * 300},
    ],
)
def test_added_tokens(added: dict[str, Any], side: str) -> None:
    text = ("the " * 7 + "<mask>  river rivers <mask>" + "x" * 700 + " the ") * 60
    for family in FAMILIES:
        encoder, tokenizer = encoder_of(family, side, **added)
        for limit in (16, 65):
            rows = rows_from_texts([text, text[1:]])
            wanted = [expected(tokenizer, (each,), limit, side) for each in rows.first]
            assert encoded(encoder, rows, limit) == wanted


@pytest.mark.parametrize("side", ["right", "left"])
def test_places_of_tokens_are_those_in_the_whole_text(side: str) -> None:
    encoder, _ = encoder_of("bert", side)
    text = " ".join(f"river {at}" for at in range(20_000))
    found, short = encoder.spelled(rows_from_texts([text, "who"]), 64)
    assert len(found) == 64 and short[0] is None and short[-1] is None
    tokens = [token for token in found if token is not None]
    assert len(tokens) == 62 and "river" in {token.text for token in tokens}
    assert (tokens[0].start > 10_000) == (side == "left")
    assert [text[t.start : t.end] for t in tokens] == [t.text.removeprefix("##") for t in tokens]


def test_long_texts_are_cut_before_they_are_tokenized() -> None:
    text = "the river of war\n" * 100_000
    assert is_long(text, 126)
    for family in FAMILIES:
        _, tokenizer = encoder_of(family)
        for side in ("right", "left"):
            part = Excerpts(tokenizer, side).of(text, 126)
            assert not part.whole and 126 < len(part.encoding) < 5_000
            assert (part.start == 0) == (side == "right")


def test_truncated_rows_are_counted() -> None:
    encoder, _ = encoder_of("bert")
    rows = rows_from_texts(["the river " * 50_000, "who", "a" * 100_000, " " * 100_000])
    found = encoder.encode(rows, 32)
    assert found.truncated == 1 and found.lengths.tolist() == [32, 3, 3, 2]


def test_the_row_of_a_token_without_a_row_is_counted_over_chunks() -> None:
    from qdeploy.errors import DataError

    encoder, tokenizer = encoder_of("bert", content="<tag>")
    encoder._vocabulary = tokenizer.token_to_id("<tag>")
    with pytest.raises(DataError, match="Row 1201 holds the token '<tag>'"):
        encoder.encode(rows_from_texts(["who"] * 1200 + ["<tag>"]))
