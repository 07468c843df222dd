"""Words of a text and tags of gold spans, in the scheme of the model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.data.rows import Rows
from qdeploy.data.span_labels import Span, span_label, spans_of
from qdeploy.errors import DataError
from qdeploy.evaluate.tagging import entities_of, gold_tags
from qdeploy.evaluate.words import words_of

IOB2 = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
SCHEMES = {
    "IOB2": IOB2,
    "IOBES": (*IOB2, *(f"{p}-{kind}" for p in "ES" for kind in ("PER", "LOC"))),
    "IOB1": ("O", "I-PER", "I-LOC"),
    "types": ("O", "PER", "LOC"),
}


def rows(texts: list[str], spans: list[list[object]]) -> Rows:
    labels = tuple(span_label("x", items) if items else "" for items in spans)
    return Rows(tuple(texts), None, labels, "rows.jsonl", tuple(range(len(texts))))


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("IOB2", ["B-PER", "O", "O", "B-LOC", "I-LOC", "O"]),
        ("IOBES", ["S-PER", "O", "O", "B-LOC", "E-LOC", "O"]),
        ("IOB1", ["I-PER", "O", "O", "I-LOC", "I-LOC", "O"]),
        ("types", ["PER", "O", "O", "LOC", "LOC", "O"]),
    ],
)
def test_tags_are_of_the_models_scheme(scheme: str, tags: list[str]) -> None:
    found = rows(["Ada  lives in New York.", "Rain"], [[[0, 4, "PER"], [14, 22, "LOC"]], []])
    assert [found.first[0][a:b] for a, b in words_of(found)[0]] == [
        *("Ada", "lives", "in", "New", "York", "."),
    ]
    assert gold_tags(found, SCHEMES[scheme]) == [tags, ["O"]]


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ([3, 5, "PER"], r"row 1: the span \[3, 5, 'PER'\] holds no word of the text, which has 10"),
        ([4, 90, "PER"], "holds no word of the text"),
        ([0, 3, "DOG"], "the type 'DOG' is none of the model's, which are LOC, PER. Spell"),
    ],
)
def test_spans_that_do_not_fit(span: list[object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        gold_tags(rows(["Ada  lives"], [[span]]), IOB2)


@given(st.lists(st.tuples(st.text("ab,. ", min_size=1), st.sampled_from(["", "PER", "LOC"]))))
def test_the_entities_are_the_spans(parts: list[tuple[str, str]]) -> None:
    """Whatever the pieces of a text: those with a type come back with their own characters."""
    text, spans = "", []
    for piece, kind in parts:
        if kind and piece.strip():
            spans.append(Span(len(text), len(text) + len(piece), kind))
        text += piece
    given_rows = rows([text], [[[*span] for span in spans]])
    (words,), (tags,) = words_of(given_rows), gold_tags(given_rows, IOB2)
    found = {(text[words[a][0] : words[b - 1][1]], kind) for kind, a, b in entities_of(tags)}
    assert found == {(text[s:e].strip(), kind) for s, e, kind in spans}
    assert spans_of(span_label("x", [[*span] for span in spans])) == spans
