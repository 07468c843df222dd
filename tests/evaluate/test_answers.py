"""Every head beside transformers' own pipeline for the same checkpoint."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

import qdeploy
from qdeploy.errors import DataError, PlanError, QDeployWarning
from qdeploy.evaluate.predictor import Predictor
from qdeploy.exporter.trace import trace
from qdeploy.head import head_facts
from tests import manifests
from tests.evaluate.bag import engine_directory
from tests.evaluate.heads import PAIRS, SIZES, Traces, engine_of, head_checkpoint
from tests.manifests import sign

Built = Callable[..., tuple[Path, Path]]
SAME = 1e-4  # of a score: the export is verified to 1e-4 in the logits
MULTI, REGRESSION = "multi_label_classification", "regression"
IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"


@pytest.fixture(scope="module", autouse=True)
def _traced_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qdeploy.exporter.export.trace", Traces(trace))
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Checkpoint and FP32 engine of a head; each is made once."""
    made: dict[str, tuple[Path, Path]] = {}

    def build(labels: tuple[str, ...], **options: Any) -> tuple[Path, Path]:
        key = repr((labels, options))
        if key not in made:
            home = tmp_path_factory.mktemp("head")
            checkpoint = head_checkpoint(home / "checkpoint", labels, **options)
            made[key] = checkpoint, engine_of(checkpoint, home)
        return made[key]

    return build


def pipeline_scores(checkpoint: Path) -> list[dict[str, float]]:
    pipe = transformers.pipeline("text-classification", model=str(checkpoint), top_k=None)
    found: Any = pipe([{"text": first, "text_pair": second} for first, second in PAIRS])
    return [{entry["label"]: entry["score"] for entry in row} for row in found]


@pytest.mark.parametrize(
    ("labels", "said", "sums_to_one"),
    [
        (("no", "yes"), {}, True),
        (("a", "b", "c"), {"problem_type": "single_label_classification", "hidden": 64}, True),
        (("toxic", "insult", "threat"), {"problem_type": MULTI}, False),
        (("toxic", "insult", "threat"), {"problem_type": MULTI, "hidden": 64}, False),
        (("only",), {"problem_type": MULTI}, False),
        (("LABEL_0",), {}, False),
        (("LABEL_0",), {"hidden": 64}, False),
        (("value",), {"problem_type": REGRESSION}, False),
        (("x", "y", "z"), {"problem_type": REGRESSION}, False),
    ],
)
def test_scores_are_those_of_the_pipeline(
    built: Built, labels: tuple[str, ...], said: dict[str, Any], sums_to_one: bool
) -> None:
    checkpoint, engine = built(labels, **said)
    predictor = qdeploy.load(engine)
    found = predictor.predict(PAIRS)
    for ours, theirs in zip(found, pipeline_scores(checkpoint), strict=True):
        assert tuple(ours.scores) == labels
        assert ours.scores == pytest.approx(theirs, abs=SAME)
        assert ours.label == max(theirs, key=theirs.__getitem__)
        assert ours.score == ours.scores[ours.label]
        assert (sum(ours.scores.values()) == pytest.approx(1)) == sums_to_one
    assert len({round(row.score, 3) for row in found}) > 1  # rows differ


def test_multi_label_names_the_labels_above_the_threshold(built: Built) -> None:
    predictor = qdeploy.load(built(("toxic", "insult", "threat"), problem_type=MULTI)[1])
    for given, threshold in ((None, 0.5), (0.0, 0.0), (0.7, 0.7), (1.0, 1.0)):
        for row in predictor.predict(PAIRS, threshold=given):
            assert row.labels == tuple(n for n, score in row.scores.items() if score > threshold)
    with pytest.raises(PlanError, match=r"threshold is 1\.5, and 0 to 1"):
        predictor.predict(PAIRS, threshold=1.5)


@pytest.mark.parametrize("hidden", SIZES)
def test_tokens_are_those_of_the_pipeline(built: Built, hidden: int) -> None:
    checkpoint, engine = built(("O", "B-X", "I-X"), auto="Token", hidden=hidden)
    predictor = qdeploy.load(engine)
    texts = ["the river of Königsberg é 漢 is north", "Unaffable 😀 x", "king " * 200, ""]
    pipe: Any = transformers.pipeline("token-classification", model=str(checkpoint))
    keys = ("entity", "word", "index", "start", "end")
    for ignored in (["O"], []):
        every = predictor.entities(texts, batch_size=3, ignore=ignored)
        for text, ours in zip(texts, every, strict=True):
            theirs = pipe(text, ignore_labels=ignored)
            assert [(e.label, e.word, e.index, e.start, e.end) for e in ours] == [
                tuple(entity[key] for key in keys) for entity in theirs
            ]
            np.testing.assert_allclose(
                [e.score for e in ours], [entity["score"] for entity in theirs], atol=SAME
            )
        assert ignored or sum(map(len, every)) > 100
    with pytest.raises(DataError, match=r"Pairs were given, and entities\(\) takes texts"):
        predictor.entities(PAIRS)  # type: ignore[arg-type]
    with pytest.raises(PlanError, match=r"Call entities\(\) or logits\(\)"):
        predictor.predict(texts)


# What a cross-encoder says


@pytest.mark.parametrize(
    ("said", "applied"),
    [
        ({"sentence_transformers": {"activation_fn": IDENTITY}}, "none"),
        ({"sentence_transformers": {"activation_fn": SIGMOID}}, "sigmoid"),
        ({"sbert_ce_default_activation_function": IDENTITY}, "none"),
        ({"sentence_transformers": {"version": "5.0"}}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": SIGMOID}, "problem_type": REGRESSION}, "none"),
    ],
)
def test_the_activation_of_a_cross_encoder(
    tmp_path: Path, built: Built, said: dict[str, Any], applied: str
) -> None:
    """Read from the config.json beside an engine, as transformers keeps it there."""
    engine = Path(shutil.copytree(built(("LABEL_0",))[1], tmp_path / "engine"))
    facts = head_facts(json.loads((engine / "config.json").read_text()) | said)
    manifests.edit(engine, "engine", head=facts)
    predictor = qdeploy.load(engine)
    logits = [float(row["logits"][0]) for row in predictor.logits(PAIRS)]
    wanted = {"none": logits, "sigmoid": [1 / (1 + np.exp(-x)) for x in logits]}
    assert [row.score for row in predictor.predict(PAIRS)] == pytest.approx(wanted[applied])
    for name, values in wanted.items():
        found = predictor.predict(PAIRS, function_to_apply=name)
        assert [row.score for row in found] == pytest.approx(values)


@pytest.mark.usefixtures("numpy_engines")
def test_an_activation_that_is_not_known_is_never_imported(tmp_path: Path) -> None:
    head = {"problem_type": None, "function_to_apply": None, "activation": "os.path.Evil"}
    votes = np.zeros((32, 1), np.float32)
    predictor = Predictor(engine_directory(tmp_path / "e", votes, labels=["x"], head=head))
    with pytest.raises(PlanError, match=r"names the activation os\.path\.Evil.*or call logits\(\)"):
        predictor.predict(["yes"])
    assert predictor.predict(["yes"], function_to_apply="sigmoid")[0].score == 0.5
    with pytest.raises(PlanError, match=r"Unknown function_to_apply 'sigmod'\. Did you mean"):
        predictor.predict(["yes"], function_to_apply="sigmod")


def test_function_to_apply_is_said_and_not_obeyed_as_in_the_pipeline(tmp_path: Path) -> None:
    checkpoint = head_checkpoint(tmp_path / "checkpoint", ("a", "b"), function_to_apply="none")
    engine = engine_of(checkpoint, tmp_path)
    with pytest.warns(QDeployWarning, match=r"function_to_apply: none.*made with 'softmax'.*Pass"):
        predictor = qdeploy.load(engine)
    for ours, theirs in zip(predictor.predict(PAIRS), pipeline_scores(checkpoint), strict=True):
        assert ours.scores == pytest.approx(theirs, abs=SAME)


# Names


def test_classes_of_one_name_are_told_apart_at_export(tmp_path: Path) -> None:
    checkpoint = head_checkpoint(tmp_path / "checkpoint", ("same", "other", "same"))
    with pytest.warns(QDeployWarning, match="classes of one name .* called same, other, same#2"):
        engine = engine_of(checkpoint, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (row, *_) = qdeploy.load(engine).predict(PAIRS)
    assert tuple(row.scores) == ("same", "other", "same#2")
    assert sum(row.scores.values()) == pytest.approx(1)


@pytest.mark.usefixtures("numpy_engines")
def test_classes_of_one_name_in_an_older_engine(tmp_path: Path) -> None:
    engine = engine_directory(tmp_path / "e", labels=["a", "a"])
    with pytest.warns(QDeployWarning, match=r"Classes of one name: a, a\. They are called a, a#2"):
        predictor = Predictor(engine)
    assert tuple(predictor.predict(["yes"])[0].scores) == ("a", "a#2")


# Directories, and heads that have no accuracy


def test_what_config_says_comes_into_both_manifests(built: Built) -> None:
    said = {"sentence_transformers": {"activation_fn": IDENTITY}, "problem_type": REGRESSION}
    checkpoint, engine = built(("a", "b"), **said)
    for directory in (checkpoint.parent / "model", engine):
        head = json.loads((directory / "qdeploy.json").read_text())["head"]
        wanted = {"problem_type": REGRESSION, "function_to_apply": None, "activation": IDENTITY}
        assert head == wanted


@pytest.mark.usefixtures("numpy_engines")
def test_an_older_engine_falls_back_on_its_config(tmp_path: Path) -> None:
    engine = engine_directory(tmp_path / "e")
    assert Predictor(engine).predict(["yes"])[0].labels == ("entailment",)
    (engine / "config.json").write_text(json.dumps({"problem_type": MULTI}))
    sign(engine)
    (row,) = Predictor(engine).predict(["yes no"])
    assert row.labels == ("entailment", "not_entailment") and min(row.scores.values()) > 0.8
    (engine / "config.json").write_text("no JSON")
    sign(engine)
    assert Predictor(engine).predict(["yes"])[0].labels == ("entailment",)


@pytest.mark.usefixtures("numpy_engines")
def test_more_logits_than_names(tmp_path: Path) -> None:
    predictor = Predictor(engine_directory(tmp_path / "e", labels=["a", "b", "c"]))
    with pytest.raises(qdeploy.errors.ModelError, match=r"gives 2 logits .* names 3 classes"):
        predictor.predict(["yes"])


@pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
@pytest.mark.parametrize(
    ("labels", "said", "kind"),
    [
        (("toxic", "insult", "threat"), {"problem_type": MULTI}, "multi-label classifier"),
        (("value",), {"problem_type": REGRESSION}, "regression"),
        (("x", "y", "z"), {"problem_type": REGRESSION}, "regression"),
        (("LABEL_0",), {}, "model with one logit"),
    ],
)
def test_accuracy_of_other_heads_is_refused_and_the_rest_measured(
    tmp_path: Path, built: Built, labels: tuple[str, ...], said: dict[str, Any], kind: str
) -> None:
    checkpoint, engine = built(labels, **said)
    with pytest.raises(PlanError, match=rf"is a {kind}: its quality is .*\(--no-accuracy\)"):
        qdeploy.evaluate(engine, limit=8, latency=False)
    report = qdeploy.evaluate(engine, accuracy=False, warmup=1, iterations=3, seq_len=16)
    assert report["metrics"] is None and report["latency_ms"]
    if len(labels) > 1 and kind == "regression":
        with pytest.raises(PlanError, match=f"no metric of its own for a {kind}.*MODULE:FUNCTION"):
            qdeploy.build(checkpoint.parent / "model", tmp_path / "auto", strategy="auto")
    with pytest.raises(PlanError, match="threshold is for multi-label|0 to 1"):
        qdeploy.load(engine).predict(PAIRS, threshold=2)
