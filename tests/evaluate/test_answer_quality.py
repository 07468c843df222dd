"""Exact match and F1 of answers, by the rules of SQuAD's official evaluation (version 2.0)."""

from __future__ import annotations

import numpy as np
import pytest

from qdeploy.data.rows import Rows
from qdeploy.errors import DataError
from qdeploy.evaluate.answer_quality import (
    answer_quality,
    gold_texts,
    plain,
    scores_of,
    token_f1,
)
from qdeploy.schemas.quality import main_figure

# Gold answers, what was said, exact match and F1, worked out by hand from the official rules:
# lower case, then no ASCII punctuation, then a blank for each article, then the words.
CASES: list[tuple[list[str], str, float, float]] = [
    (["Denver Broncos"], "denver broncos", 1, 1),
    (["Denver Broncos"], "The Denver Broncos!", 1, 1),
    (["Denver Broncos"], "Broncos", 0, 2 / 3),  # precision 1, recall 1/2
    (["Denver Broncos"], "Broncos of Denver", 0, 4 / 5),  # 2/3 and 1
    (["Denver Broncos", "Broncos"], "the Broncos", 1, 1),  # the best of several
    (["1843"], "in 1843", 0, 2 / 3),
    (["1843"], "1842", 0, 0),
    (["gold"], "gold, gold and gold", 0, 2 / 5),  # a word counts as often as in both
    (["gold gold"], "gold gold gold", 0, 4 / 5),
    (["well-known"], "wellknown", 1, 1),  # punctuation goes, and leaves no blank
    (["well-known"], "well known", 0, 0),
    (["U.S."], "us", 1, 1),
    (["an apple a day"], "apple   the day", 1, 1),
    (["theory of a man"], "theory of man", 1, 1),  # articles are whole words
    (["caf\u00e9 \u2013 bar"], "cafe bar", 0, 2 / 5),  # accents and dashes of Unicode are words
    (["the"], "", 1, 1),  # nothing is left of the gold answer: a question without one
    (["the"], "king", 0, 0),
    (["the", "king"], "", 0, 0),  # one of them is left
    (["the", "king"], "King", 1, 1),
    (["king"], "the", 0, 0),  # nothing is left of what was said
    ([], "", 1, 1),
    ([], "the", 1, 1),
    ([], "king", 0, 0),
    (["king"], "", 0, 0),
]


@pytest.mark.parametrize(("gold", "said", "exact", "f1"), CASES)
def test_the_official_rules(gold: list[str], said: str, exact: float, f1: float) -> None:
    found = scores_of([gold], [said])
    assert found.exact.tolist() == [exact]
    assert found.f1.tolist() == [pytest.approx(f1)]
    assert found.answerable.tolist() == [bool(gold)]


def test_the_figures_are_means() -> None:
    scores = scores_of([gold for gold, *_ in CASES], [said for _, said, *_ in CASES])
    found = {f["name"]: f["value"] for f in answer_quality(scores, None)["figures"]}
    has = [f1 for gold, _, _, f1 in CASES if gold]
    assert found == {
        "answer f1": pytest.approx(np.mean([case[3] for case in CASES])),
        "exact match": pytest.approx(np.mean([case[2] for case in CASES])),
        "HasAns f1": pytest.approx(np.mean(has)),
        "NoAns f1": pytest.approx(2 / 3),
    }


@pytest.mark.parametrize("gold", [[["king"], ["war"]], [[], []]])
def test_questions_of_one_kind_have_no_figures_of_two(gold: list[list[str]]) -> None:
    found = answer_quality(scores_of(gold, ["king", ""]), None)
    assert [f["name"] for f in found["figures"]] == ["answer f1", "exact match"]
    assert main_figure(found)["value"] == 0.5


def test_a_drop_is_paired_with_its_interval() -> None:
    rng = np.random.default_rng(0)
    gold = [["king"] if hit else [] for hit in rng.random(400) < 0.7]
    base = ["king" if hit else "" for hit in rng.random(400) < 0.7]
    own = [
        "war" if worse else said for said, worse in zip(base, rng.random(400) < 0.1, strict=True)
    ]
    found = answer_quality(scores_of(gold, own), scores_of(gold, base))
    for figure in found["figures"]:
        assert figure["drop"] is not None and figure["drop_ci95"] is not None
        low, high = figure["drop_ci95"]
        assert low < figure["drop"] < high
        assert figure["drop"] == pytest.approx(figure["baseline"] - figure["value"])
    low, high = main_figure(found)["drop_ci95"] or [0, 0]
    # narrower than two intervals of their own: both engines have the same draws
    own_low, own_high = main_figure(found)["ci95"]
    assert low > 0 and high - low < own_high - own_low
    same = answer_quality(scores_of(gold, own), scores_of(gold, own))
    assert main_figure(same)["drop_ci95"] == [0, 0]


def test_words_of_a_text() -> None:
    assert plain("  An (A-B) the\tthen 'x' ") == "ab then x"
    assert token_f1("a", "the") == 1 and token_f1("x", "") == 0


def test_labels_that_are_no_answers() -> None:
    rows = Rows(("q",), ("c",), ("yes",), "rows.tsv", (6,))
    with pytest.raises(DataError, match=r"rows.tsv, row 7: the label is 'yes'.*--task squad"):
        gold_texts(rows)
    for label in ("3", '["Ada"]', "[[1]]", "{}x", "null"):
        with pytest.raises(DataError, match="gold answers"):
            gold_texts(Rows(("q",), ("c",), (label,), "rows.tsv", (0,)))
    assert gold_texts(Rows(("q",), ("c",), ('[["Ada", 3]]',), "x", (0,))) == [["Ada"]]
