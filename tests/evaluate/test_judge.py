"""What `--strategy auto` gates each head by: no loss of the same outputs, more of more noise."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdeploy
from qdeploy.data.gold_answers import label_of
from qdeploy.data.rows import Rows
from qdeploy.data.tasks import find_task
from qdeploy.data.tokens import BETWEEN
from qdeploy.errors import DataError, PlanError
from qdeploy.evaluate.accuracy import outputs_of
from qdeploy.evaluate.judge import Judge, judge_of
from qdeploy.evaluate.loaded_engine import LoadedEngine, load_engine
from qdeploy.evaluate.scoring import Outputs
from qdeploy.head import SPANS
from tests.evaluate.heads import head_checkpoint
from tests.modules import importing
from tests.once import Once
from tests.sentence_models import sentence_checkpoint
from tests.tiny import tiny_checkpoint

pytest.importorskip("scipy")
pytest.importorskip("sklearn")

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
WORDS = ("the", "king", "of", "city", "river", "north", "year", "was", "war", "music", "light")
HEADS: dict[str, Callable[[Path], Path]] = {
    "classes": lambda home: head_checkpoint(home, ("no", "yes", "maybe")),
    "one logit": lambda home: head_checkpoint(home, ("score",)),
    "tags": lambda home: head_checkpoint(home, TAGS, auto="Token"),
    "embedding": sentence_checkpoint,
    "several": lambda home: head_checkpoint(
        home, ("a", "b", "c"), problem_type="multi_label_classification"
    ),
    "answers": lambda home: tiny_checkpoint(home, "bert", "question-answering"),
    "values": lambda home: head_checkpoint(home, ("a", "b"), problem_type="regression"),
}
METRICS = {
    "classes": "accuracy",
    "one logit": "spearman",
    "tags": "entity f1",
    "embedding": "recall@10",
    "several": "micro F1",
    "answers": "answer f1",
}


@pytest.fixture(scope="module")
def engine(once: Once) -> Callable[[str], LoadedEngine]:
    def make(head: str) -> Callable[[Path], Path]:
        def into(home: Path) -> Path:
            qdeploy.export(HEADS[head](home / "checkpoint"), home / "model")
            qdeploy.build(home / "model", home / "engine", strategy="fp32")
            return home / "engine"

        return into

    return lambda head: load_engine(once("judged", head, make(head))[1], 1)


def some_rows(head: str, count: int = 48, *, labelled: bool = True) -> Rows:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(2 * count)]
    pairs = head != "tags" and head != "classes"
    labels: list[str] = [str(value) for value in rng.normal(size=count)]
    if head == "classes":
        labels = [str(value) for value in rng.choice(["no", "yes", "maybe"], count)]
    if head == "answers":
        labels = [_gold(text) for text in texts[count:]]
    if head == "several":
        labels = [BETWEEN.join(sorted(set(rng.choice(["a", "b", "c"], 2)))) for _ in range(count)]
    if head == "tags":
        labels = [BETWEEN.join(rng.choice(TAGS, len(t.split()))) for t in texts[:count]]
    return Rows(
        tuple(texts[:count]),
        tuple(texts[count:]) if pairs else None,
        tuple(labels) if labelled else None,
        "rows.tsv",
        tuple(range(count)),
    )


def _gold(context: str) -> str:
    """Its second word is the answer."""
    word = context.split()[1]
    return label_of("here", {"text": [word], "answer_start": [context.index(f" {word}") + 1]}) or ""


def judged(engine: LoadedEngine, rows: Rows, **options: Any) -> tuple[Judge, Outputs]:
    found = outputs_of(engine, rows)
    task = find_task("squad" if engine.head.task == SPANS else "text")
    judge = judge_of(engine, rows, found, task=task, places=task.columns, **options)
    return judge, found.values


def noisy(outputs: Outputs, share: float, seed: int = 1) -> Outputs:
    """Each output with noise of so many of its standard deviations."""
    rng = np.random.default_rng(seed)
    return {
        name: (values + share * values.std() * rng.normal(size=values.shape)).astype(np.float32)
        for name, values in outputs.items()
    }


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("head", list(METRICS))
def test_the_same_outputs_lose_nothing_and_noise_loses(
    head: str, labelled: bool, engine: Callable[[str], LoadedEngine]
) -> None:
    judge, exact = judged(engine(head), some_rows(head, labelled=labelled))
    assert judge.metric == METRICS[head]
    assert judge.labelled == (labelled and head != "embedding")
    same = judge.loss(exact, exact)
    assert same.expected_drop == same.measured_drop == 0 and same.holds(0)
    little, much = (judge.loss(exact, noisy(exact, share)) for share in (0.001, 3.0))
    assert little.sqnr_db > 40 > much.sqnr_db
    if not labelled or head == "embedding":  # random labels know nothing that noise could take
        assert little.expected_drop < much.expected_drop
        assert much.measured_drop > 10 and not much.holds(judge.max_drop)


def test_the_drop_is_the_metrics(engine: Callable[[str], LoadedEngine]) -> None:
    """Spearman's of ranks that were turned round: from 1 to −1."""
    judge, exact = judged(engine("one logit"), some_rows("one logit", labelled=False))
    turned = {"logits": -exact["logits"]}
    assert judge.loss(exact, turned).measured_drop == pytest.approx(200)
    assert judge.max_drop == 0.3


def test_embeddings_hold_by_their_cosines_too(engine: Callable[[str], LoadedEngine]) -> None:
    judge, exact = judged(engine("embedding"), some_rows("embedding"))
    vectors = exact["sentence_embedding"]
    found = judge.loss(exact, {"sentence_embedding": -vectors})
    assert found.expected_drop == 0  # all turned round: the neighbours stay
    assert found.cosine == pytest.approx(-1) and not found.holds(judge.max_drop)
    assert judge.max_drop == 5


def test_neighbours_need_texts(engine: Callable[[str], LoadedEngine]) -> None:
    judge, exact = judged(engine("embedding"), some_rows("embedding", 5))
    with pytest.raises(DataError, match="10 texts were held out, and 11"):
        judge.loss(exact, exact)


@pytest.mark.parametrize(
    ("head", "asked", "name"),
    [
        ("one logit", "Pearson", "pearson"),
        ("tags", "word-accuracy", "word accuracy"),
        ("tags", "entity recall", "entity recall"),
        ("embedding", "spearman", "spearman"),
        ("several", "subset accuracy", "subset accuracy"),
        ("classes", "mcc", "MCC"),
        ("classes", "Macro-F1", "macro F1"),
    ],
)
def test_another_metric_by_name(
    head: str, asked: str, name: str, engine: Callable[[str], LoadedEngine]
) -> None:
    judge, exact = judged(engine(head), some_rows(head), metric=asked)
    assert judge.metric == name and judge.labelled
    assert judge.loss(exact, exact).measured_drop == 0


@pytest.mark.parametrize(
    ("head", "asked", "message"),
    [
        ("classes", "spearman", "accuracy"),
        ("one logit", "ndcg@10", "no query"),
        ("values", None, "--metric MODULE:FUNCTION"),
        ("classes", "nowhere_at_all:metric", "importing nowhere_at_all fails"),
        ("classes", "math:no_such", "has no function 'no_such'"),
        ("classes", "math:pi", "has no function 'pi'"),
    ],
)
def test_what_is_refused(
    head: str, asked: str | None, message: str, engine: Callable[[str], LoadedEngine]
) -> None:
    with pytest.raises((PlanError, DataError), match=message):
        judged(engine(head), some_rows(head), metric=asked)


@pytest.mark.parametrize("head", list(HEADS))
def test_a_metric_of_ones_own(head: str, engine: Callable[[str], LoadedEngine]) -> None:
    """It sees what `logits()` gives, row by row, with tags or an answer beside it."""
    rows, loaded = some_rows(head), engine(head)
    seen = list[Any]()

    def mean_of_all(outputs: Any, labels: Any) -> float:
        assert labels is not None and len(labels) == len(outputs)
        seen.append(outputs)
        told = {"tags": "tags", "answers": "answer"}.get(head)
        assert all((told in row) == (told is not None) for row in outputs)
        numbers = [value for row in outputs for name, value in row.items() if name != told]
        return float(np.mean([np.mean(value) for value in numbers]))

    judge, exact = judged(loaded, rows, metric=mean_of_all)
    assert judge.metric == "mean_of_all"
    lower = {name: values - 0.25 for name, values in exact.items()}
    found = judge.loss(exact, lower)
    assert found.measured_drop == pytest.approx(25, abs=0.01)
    assert found.expected_drop == pytest.approx(25, abs=0.01)
    predictor = qdeploy.load(loaded.directory, threads=1)
    if head == "embedding":
        singles = predictor.logits([*rows.singles().first])
        given = [row["sentence_embedding"] for row in singles]
        whole = np.concatenate([row["sentence_embedding"] for row in seen[0]])
        np.testing.assert_allclose(whole, np.stack(given), atol=1e-5)
        return
    texts: Any = [*rows.first]
    if rows.second is not None:
        texts = [*zip(rows.first, rows.second, strict=True)]
    for row, own in zip(seen[0], predictor.logits(texts), strict=True):
        if head == "answers":
            (start,) = row["start_logits"]  # of one window
            np.testing.assert_allclose(start, own["start_logits"], atol=1e-5)
            continue
        np.testing.assert_allclose(row["logits"], own["logits"], atol=1e-5)


def test_a_metric_that_fails_or_gives_no_number(engine: Callable[[str], LoadedEngine]) -> None:
    def fails(outputs: Any, labels: Any) -> float:
        raise KeyError("start")

    for metric, message in ((fails, "fails on 48 rows: KeyError"), (lambda *_: math.nan, "nan")):
        judge, exact = judged(engine("classes"), some_rows("classes"), metric=metric)
        with pytest.raises(PlanError, match=message):
            judge.loss(exact, exact)


def test_a_module_of_the_current_directory(
    engine: Callable[[str], LoadedEngine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_judging.py").write_text("def share_of_yes(outputs, labels):\n    return 1.0\n")
    monkeypatch.chdir(tmp_path)
    metric = "my_judging:share_of_yes"
    with importing(tmp_path):
        sys.path.remove(str(tmp_path))  # the module is forgotten afterwards, and found by itself
        judge, exact = judged(engine("classes"), some_rows("classes"), metric=metric)
    assert judge.metric == "share_of_yes" and judge.loss(exact, exact).holds(0)
