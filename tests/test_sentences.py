"""Pages are read once: sentences of at most 20 words on average, and none above 30."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sentences import MEAN, MOST, pages, sentences, words


def test_sentences_are_found_and_counted() -> None:
    text = (
        "# Not this\n\nA b c. D `x y z` e:\nf g; (h) i!\n\n| no | no |\n\n- j k\n  l\n- m e.g. n\n"
    )
    assert sentences(text) == ["A b c.", "D code e: f g; (h) i!", "j k l", "m e.g n"]
    assert [words(s) for s in sentences(text)] == [3, 7, 3, 3]
    assert sentences("```sh\nnot this. nor that.\n```\n<!-- nor. -->\nThis.") == ["This."]
    assert words("At 8 × 128 it takes 3.5 ms — twice.") == 8


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_a_page_has_short_sentences(page: Path) -> None:
    found = sentences(page.read_text("utf-8"))
    counts = [words(sentence) for sentence in found]
    assert [f"{n} words: {s}" for n, s in zip(counts, found, strict=True) if n > MOST] == []
    assert sum(counts) <= MEAN * len(counts)
