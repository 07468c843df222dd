"""Entities of a token classifier against gold tags, by the rules of the CoNLL shared tasks.

An entity counts where its words and its type are exactly those of the gold tags. Tags are B-, I-
and those of IOBES; an I- that continues nothing begins an entity, as in `conlleval` (Tjong Kim Sang
and De Meulder 2003, https://aclanthology.org/W03-0419). A word has the class of its first token, as
models are trained; a word that was cut off has none.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qdeploy.data.rows import Rows
from qdeploy.data.span_labels import spans_of
from qdeploy.data.tokenize import Token
from qdeploy.data.tokens import items_of
from qdeploy.errors import DataError
from qdeploy.evaluate.bootstrap import quality_of_scores
from qdeploy.evaluate.words import OUTSIDE, are_spans, split_tag, tags_of_spans, words_of
from qdeploy.names import few
from qdeploy.schemas.quality import Quality
from qdeploy.types import Array

F1, PRECISION, RECALL, ACCURACY = "entity f1", "entity precision", "entity recall", "word accuracy"
_NAMED = 40  # tags, in an error text
_DRAWS = 1000
Entity = tuple[str, int, int]  # type, first word, word behind the last


@dataclass(frozen=True)
class Counts:
    """Of each sentence, int64 [N, 5]: entities that are right, found, and there; words that are
    right, and there."""

    values: Array

    def count(self, name: str) -> int:
        """The sentences, of every metric."""
        return len(self.values)

    def figure(self, name: str, drawn: Array | None = None) -> float:
        """A metric of all sentences, or of those that were drawn."""
        values = self.values if drawn is None else self.values[drawn]
        right, found, there, words, all_words = values.sum(axis=0).tolist()
        if name == ACCURACY:
            return words / all_words if all_words else 0.0
        precision = right / found if found else 0.0
        recall = right / there if there else 0.0
        if name == PRECISION:
            return precision
        if name == RECALL:
            return recall
        return 2 * precision * recall / (precision + recall) if right else 0.0


def entities_of(tags: Sequence[str]) -> set[Entity]:
    """The entities of a sentence.

    >>> sorted(entities_of(["B-a", "I-a", "O", "I-b", "I-a", "B-a"]))
    [('a', 0, 2), ('a', 4, 5), ('a', 5, 6), ('b', 3, 4)]
    """
    found, kind, start = set[Entity](), None, 0
    for at, tag in enumerate([*tags, OUTSIDE]):
        prefix, own = split_tag(tag)  # without prefixes neighbours of one class are one entity
        if kind is not None and (prefix in ("B", "S", OUTSIDE) or own != kind):
            found.add((kind, start, at))
            kind = None
        if prefix != OUTSIDE and kind is None:
            kind, start = own, at
        if kind is not None and prefix in ("E", "S"):
            found.add((kind, start, at + 1))
            kind = None
    return found


def gold_tags(rows: Rows, labels: Sequence[str]) -> list[list[str]]:
    """The tags of each word of each row.

    Args:
        rows: with labels, tags of words joined (`qdeploy.data.tokens`), or spans of entities.
        labels: class names of the model, which numbers are indices of.

    Raises:
        DataError: a row with more or fewer tags than words, or a tag that is no class of the model.
    """
    assert rows.labels is not None
    if are_spans(rows):
        return _of_spans(rows, labels)
    known, found = set(labels), []
    numbers = {str(at): name for at, name in enumerate(labels)}
    for row_id, text, label in zip(rows.row_ids, rows.first, rows.labels, strict=True):
        tags = [numbers.get(tag, tag) for tag in items_of(label)]
        words = text.split(" ")
        if len(tags) != len(words):
            raise DataError(
                f"{rows.source}, row {row_id + 1}: {len(words)} words and {len(tags)} tags, and a "
                "tag for each word was expected. Take a CoNLL file, rows with lists under tokens "
                "and ner_tags, or a text with a list of spans: [[0, 3, 'PER'], …]."
            )
        if strange := sorted(set(tags) - known):
            raise DataError(
                f"{rows.source}, row {row_id + 1}: the tag '{strange[0][:40]}' is no class of the "
                f"model, which has {few(labels, _NAMED)}. Spell the tags as the model "
                "does."
            )
        found.append(tags)
    return found


def _of_spans(rows: Rows, labels: Sequence[str]) -> list[list[str]]:
    assert rows.labels is not None
    found = []
    parts = zip(rows.row_ids, rows.first, words_of(rows), rows.labels, strict=True)
    for row_id, text, words, label in parts:
        where = f"{rows.source}, row {row_id + 1}"
        found.append(tags_of_spans(where, text, words, spans_of(label), labels))
    return found


def predicted_tags(
    rows: Rows, spelled: Sequence[Sequence[Token | None]], logits: Array, labels: Sequence[str]
) -> list[list[str]]:
    """What a token classifier says of each word of each row.

    Args:
        rows: texts, of which `words_of` gives the words.
        spelled: tokens of each row, None for special ones.
        logits: FP32 [tokens of all rows, classes].
        labels: class names by index.
    """
    best, at, found = logits.argmax(axis=1), 0, []
    for text, words, tokens in zip(rows.first, words_of(rows), spelled, strict=True):
        tags: list[str | None] = [None] * len(words)
        starts = [start for start, _ in words]
        for token, chosen in zip(tokens, best[at : at + len(tokens)].tolist(), strict=True):
            if token is None or token.start == token.end:
                continue
            # a token may begin with the blank in front of its word
            start = token.start + (text[token.start] == " " and token.end - token.start > 1)
            word = bisect.bisect_right(starts, start) - 1
            if word >= 0 and start < words[word][1]:  # white space may be a token
                tags[word] = tags[word] or labels[chosen]
        at += len(tokens)
        found.append([tag or OUTSIDE for tag in tags])
    return found


def counts_of(gold: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> Counts:
    """What is right of each sentence."""
    rows = []
    for wanted, said in zip(gold, found, strict=True):
        own, there = entities_of(said), entities_of(wanted)
        words = sum(a == b for a, b in zip(wanted, said, strict=True))
        rows.append((len(own & there), len(own), len(there), words, len(wanted)))
    return Counts(np.array(rows, np.int64))


def tag_quality(own: Counts, base: Counts | None, seed: int = 0) -> Quality:
    """The metrics with their intervals, by a bootstrap over sentences, paired for a drop.

    Args:
        own, base: of the engine and its baseline; None where there is none.
        seed: of the bootstrap.
    """
    return quality_of_scores(
        (F1, PRECISION, RECALL, ACCURACY), len(own.values), own, base, seed, draws=_DRAWS
    )
