"""What needs no labels is given without them: agreement, noise, and the largest difference."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdeploy
from qdeploy.cli import main
from qdeploy.data.rows import read_rows
from qdeploy.errors import ModelError, PlanError, QDeployWarning
from qdeploy.evaluate.accuracy import outputs_of
from qdeploy.evaluate.loaded_engine import load_engine
from qdeploy.files.artifact import write_json
from qdeploy.sqnr import logit_sqnr_db
from tests.evaluate.bag import CLASSES, engine_directory, table
from tests.exports import Exports
from tests.manifests import sign

pytestmark = pytest.mark.integration
LABEL_FREE = {"agreement", "flipped", "sqnr_db", "max_abs_diff", "equal_logits"}
NEEDS_LABELS = {"accuracy", "drop", "mcnemar_p", "ci95"}


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows without a column of labels."""
    path = tmp_path_factory.mktemp("rows") / "texts.tsv"
    words = [("yes", "no")[at % 2] + f" w{at % 26}" for at in range(50)]
    path.write_text("question\tsentence\n" + "".join(f"w1\t{text}\n" for text in words))
    return path


@pytest.fixture
def engines(tmp_path: Path) -> tuple[Path, Path]:
    """An engine whose logits are not those of its baseline, and that one."""
    votes = table()
    votes[8:20] += (0, 3)
    own = engine_directory(tmp_path / "own", votes, strategy="w8a8", calibration=None)
    return own, engine_directory(tmp_path / "base", strategy="fp32", calibration=None)


def evaluate(engine: Path, data: Path, **options: Any) -> Any:
    """The report alone; its warnings stand in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QDeployWarning)
        options = {"latency": False} | options
        return qdeploy.evaluate(engine, data=str(data), threads=1, **options)


def logits(engine: Path, data: Path) -> Any:
    rows = [line.split("\t") for line in data.read_text().splitlines()[1:]]
    predictor = qdeploy.load(engine, threads=1)
    return np.stack([found["logits"] for found in predictor.logits([(a, b) for a, b in rows])])


def test_what_needs_no_labels_is_given(engines: tuple[Path, Path], texts: Path) -> None:
    own, base = engines
    report = evaluate(own, texts, baseline=base)
    found, exact, other = report["baseline"], logits(base, texts), logits(own, texts)
    flipped = int((exact.argmax(1) != other.argmax(1)).sum())
    assert 0 < flipped < 50
    assert (found["flipped"], found["agreement"]) == (flipped, pytest.approx(1 - flipped / 50))
    assert found["sqnr_db"] == pytest.approx(
        logit_sqnr_db([(exact, other)], exclusive=True), abs=1e-3
    )
    assert found["max_abs_diff"] == pytest.approx(float(np.abs(exact - other).max()), rel=1e-5)
    assert not NEEDS_LABELS & set(found)
    assert report["metrics"] is None and report["data"]["labelled"] is False
    assert report["no_accuracy"] == f"{texts} has no labels"
    assert report["warnings"][0].startswith(f"Accuracy was not measured: {texts} has no labels.")
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_labels_add_to_it_and_change_nothing(engines: tuple[Path, Path], texts: Path) -> None:
    own, base = engines
    labelled = texts.with_name("labelled.tsv")
    first, *lines = texts.read_text().splitlines()
    labels = [CLASSES["no" in line] for line in lines]
    text = [f"{first}\tlabel", *(f"{a}\t{b}" for a, b in zip(lines, labels, strict=True))]
    labelled.write_text("\n".join(text) + "\n")
    without, with_them = (
        evaluate(own, path, baseline=base)["baseline"] for path in (texts, labelled)
    )
    assert {k: with_them[k] for k in LABEL_FREE} == {k: without[k] for k in LABEL_FREE}
    assert set(with_them) >= NEEDS_LABELS


def test_an_engine_against_itself(engines: tuple[Path, Path], texts: Path) -> None:
    base = evaluate(engines[0], texts, baseline=engines[0])["baseline"]
    assert (base["flipped"], base["max_abs_diff"], base["sqnr_db"]) == (0, 0.0, None)
    assert base["equal_logits"]


def test_without_a_baseline_latency_is_left(engines: tuple[Path, Path], texts: Path) -> None:
    own, _ = engines
    report = evaluate(own, texts, latency=True, seq_len=16, warmup=1, iterations=20)
    assert report["latency_ms"] and report["metrics"] is None and report["baseline"] is None
    (text,) = report["warnings"]
    assert "has no labels. Name their column with --columns label=COLUMN, or pass --base" in text


def test_a_column_that_holds_no_class_is_not_asked_for(
    engines: tuple[Path, Path], tmp_path: Path
) -> None:
    """GLUE's test split marks what has no class with -1: naming the column would change nothing."""
    blank = tmp_path / "blank.tsv"
    blank.write_text("question\tsentence\tlabel\n" + "the river\ta king\t-1\n" * 8)
    (text,) = evaluate(engines[0], blank)["warnings"]
    assert "blank.tsv has no labels (its column 'label' holds -1 or nothing)." in text
    assert "Name rows that have some with --data, or pass --baseline fp32" in text
    assert "--columns" not in text


def test_a_drop_needs_labels(engines: tuple[Path, Path], texts: Path) -> None:
    own, base = engines
    with pytest.raises(
        PlanError, match=r"--max-drop needs a figure that can drop, and .*texts\.tsv has no la"
    ):
        evaluate(own, texts, baseline=base, max_drop=1.0)


def test_the_engine_alone_is_called_a_constant_predictor(
    engines: tuple[Path, Path], texts: Path, tmp_path: Path
) -> None:
    """Rows without labels may be of one class: the baseline tells."""
    votes = np.zeros_like(table())
    votes[:, 0] = 1
    constant = engine_directory(tmp_path / "constant", votes, strategy="w8a8")
    report = evaluate(constant, texts, baseline=engines[1])
    assert any(text.startswith("CONSTANT PREDICTOR") for text in report["warnings"])
    report = evaluate(constant, texts, baseline=constant)
    assert not any("CONSTANT" in text for text in report["warnings"])


@pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
def test_table_and_page_show_it(
    engines: tuple[Path, Path],
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("COLUMNS", "300")  # no line is wrapped
    own, base = engines
    page = tmp_path / "x.html"
    words = ["eval", str(own), "--data", str(texts), "--baseline", str(base), "--no-latency"]
    assert main([*words, "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert "not measured: " in out and "texts.tsv has no labels" in out
    found = evaluate(own, texts, baseline=base)["baseline"]
    changed = f"{100 * found['agreement']:.2f} % ({found['flipped']} of 50 answers change)"
    assert changed in out
    assert f"{found['sqnr_db']:.1f} dB (against fp32)" in out
    assert f"{found['max_abs_diff']:.3g} (of a logit from fp32's)" in out
    html = page.read_text("utf-8")
    assert "largest difference" in html and "of the answers are fp32" in html


# Heads that choose no class


def changed(directory: Path, **config: Any) -> Path:
    write_json(directory / "config.json", config)
    sign(directory)
    return directory


HEADS = {
    "model with one logit": ({"labels": ["LABEL_0"]}, {}),
    "regression": ({"labels": ["LABEL_0"]}, {"problem_type": "regression"}),
    "regression of two values": ({}, {"problem_type": "regression"}),
    "multi-label classifier": ({}, {"problem_type": "multi_label_classification"}),
}


@pytest.mark.parametrize("head", HEADS)
def test_other_heads_have_noise_and_no_accuracy(head: str, tmp_path: Path, texts: Path) -> None:
    fields, config = HEADS[head]
    width = len(fields.get("labels", CLASSES))
    shared: dict[str, Any] = {"calibration": None, **fields}
    base = changed(engine_directory(tmp_path / "b", table()[:, :width], **shared), **config)
    votes = table()[:, :width] + np.float32(0.02)
    own = changed(engine_directory(tmp_path / "o", votes, **shared), **config)
    report = evaluate(own, texts, baseline=base)
    tokens = load_tokens(texts)
    assert report["baseline"]["max_abs_diff"] == pytest.approx(0.02 * max(tokens), rel=1e-3)
    assert report["baseline"]["sqnr_db"] > 0 and "agreement" not in report["baseline"]
    kind = head.removesuffix(" of two values")
    unknown = "measured so far" if kind != head else "has no labels"
    assert unknown in report["no_accuracy"]
    refusal = rf"is a {kind}: its quality .*{unknown}.* Pass --baseline fp32 to see how far"
    with pytest.raises(PlanError, match=refusal):
        evaluate(own, texts)
    with pytest.raises(PlanError, match="--max-drop needs a figure"):
        evaluate(own, texts, baseline=base, max_drop=1)
    assert evaluate(own, texts, accuracy=False)["metrics"] is None


def load_tokens(texts: Path) -> list[int]:
    """Tokens of each row: the words, [CLS], and [SEP] twice."""
    return [len(line.split()) + 3 for line in texts.read_text().splitlines()[1:]]


def test_outputs_of_another_shape(tmp_path: Path, texts: Path) -> None:
    shared: dict[str, Any] = {"calibration": None, "labels": ["LABEL_0"]}
    one = engine_directory(tmp_path / "one", table()[:, :1], **shared)
    two = engine_directory(tmp_path / "two", table(), **shared)
    with pytest.raises(
        ModelError, match=r"gives logits 50×2 for these rows, and the engine logits 50×1\. Tak"
    ):
        evaluate(one, texts, baseline=two)


@pytest.mark.parametrize(
    ("task", "rows"), [("token-classification", "text"), ("question-answering", "qnli")]
)
def test_outputs_of_tokens_are_compared_without_the_padding(
    task: str, rows: str, exported: Exports, tmp_path: Path
) -> None:
    """Batches of one row have no padding, and give the same values."""
    pytest.importorskip("torch")
    shutil.copytree(exported(task=task).model_dir, tmp_path / "m")
    qdeploy.build(tmp_path / "m", tmp_path / "fp32", strategy="fp32")
    qdeploy.build(tmp_path / "m", tmp_path / "own", strategy="dynamic")
    data = tmp_path / "rows.jsonl"
    texts = ["the river", "the old city of the north was built by a king", "water"]
    lines = [{"text": x, "question": "what is known", "sentence": x} for x in texts]
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))

    report = evaluate(tmp_path / "own", data, task=rows, baseline=tmp_path / "fp32")
    assert "has no labels" in report["no_accuracy"]
    assert report["baseline"]["max_abs_diff"] > 0 and "agreement" not in report["baseline"]
    subject, read = load_engine(tmp_path / "fp32", 1), read_rows(data, task=rows)
    alone, together = (outputs_of(subject, read, batch_size=size) for size in (1, 3))
    assert len(alone.values) == (1 if task == "token-classification" else 2)  # a start and an end
    for name, values in alone.values.items():
        np.testing.assert_allclose(together.values[name], values, atol=1e-4)
        assert len(values) == sum(alone.lengths.kept)
