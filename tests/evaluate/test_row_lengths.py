"""How long rows may be: what production reads is what is measured, and every cut is said.

Real engines: a bag of words in ONNX Runtime whose first 200 tokens have no vote.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdeploy
from qdeploy.cli import main
from qdeploy.data import read_rows, rows_from_texts
from qdeploy.data.tokenize import TextEncoder
from qdeploy.data.tokenizer_files import TokenizerFacts
from qdeploy.errors import PlanError, QDeployWarning
from qdeploy.evaluate.predict import RUN_PAIRS, RUN_TOKENS, predict_logits
from tests import manifests
from tests.evaluate.bag import CLASSES, BagEngine, engine_directory, table, tokenizer

pytestmark = pytest.mark.integration
SKIPPED, ROWS = 200, 40


@pytest.fixture(scope="module")
def long_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of about 260 tokens whose last words decide; a third of the labels are wrong."""
    lines = ["question\tsentence\tlabel"]
    for at in range(ROWS):
        vote = "yes" if at % 2 else "no"
        label = CLASSES[(vote == "no") != (at % 3 == 0)]
        lines.append(f"w1 w2\t{'w3 ' * 250}{vote} {vote}\t{label}")
    path = tmp_path_factory.mktemp("rows") / "long.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """It takes 512 tokens and looks at those after the 200th."""
    return engine_directory(
        tmp_path / "e", table(0), skips=SKIPPED, strategy="fp32", max_length=512
    )


def evaluate(engine: Path, data: Path, **options: Any) -> Any:
    """The report alone; its warnings stand in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QDeployWarning)
        return qdeploy.evaluate(engine, data=str(data), latency=False, **options)


def test_the_end_of_a_long_text_counts(engine: Path, long_rows: Path) -> None:
    report = evaluate(engine, long_rows)
    assert not report["warnings"]
    rows = read_rows(long_rows)
    assert rows.second is not None and rows.labels is not None
    pairs = list(zip(rows.first, rows.second, strict=True))
    answers = [p.label for p in qdeploy.load(engine).predict(pairs)]
    right = sum(a == b for a, b in zip(answers, rows.labels, strict=True)) / ROWS
    assert report["metrics"]["accuracy"] == right == pytest.approx(26 / 40)
    assert not report["metrics"]["constant_predictor"]
    assert (report["data"]["max_length"], report["data"]["truncated"]) == (512, 0)
    assert report["data"]["lengths"]["median"] == 257  # [CLS], 2, [SEP], 252, [SEP]


def test_the_latency_s_length_is_its_own(engine: Path, long_rows: Path) -> None:
    report = qdeploy.evaluate(
        engine, data=str(long_rows), seq_len=16, batch_size=2, warmup=1, iterations=20, threads=1
    )
    assert report["metrics"]["accuracy"] == pytest.approx(26 / 40)
    assert report["protocol"]["seq_len"] == 16 and report["data"]["max_length"] == 512


def test_a_cut_is_said_with_its_cause(engine: Path, long_rows: Path, tmp_path: Path) -> None:
    with pytest.warns(QDeployWarning) as said:
        report = qdeploy.evaluate(engine, data=str(long_rows), latency=False, max_length=128)
    assert report["metrics"]["constant_predictor"] and report["metrics"]["accuracy"] < 0.6
    assert (report["data"]["truncated"], report["data"]["truncated_share"]) == (40, 1.0)
    (cut,) = [str(w.message) for w in said if "were cut" in str(w.message)]
    assert cut in report["warnings"]
    assert "40 of 40 evaluation rows (100.0 %) have more than 128 tokens and were cut there" in cut
    assert "--max-length says so" in cut and "up to 512" in cut
    short = engine_directory(tmp_path / "short", strategy="fp32", max_length=64)
    assert "the model takes no more" in evaluate(short, long_rows)["warnings"][0]
    large = engine_directory(tmp_path / "large", table(0), strategy="fp32", max_length=2048)
    very = tmp_path / "very.tsv"
    line = f"w1\t{'w2 ' * 600}{{}}\t{{}}\n"
    texts = [line.format("yes", CLASSES[0]), line.format("no", CLASSES[1])]
    very.write_text("question\tsentence\tlabel\n" + "".join(texts))
    (usual, *_) = evaluate(large, very)["warnings"]
    assert "it is the limit where none is named" in usual and usual.endswith("up to 2048.")
    report = evaluate(large, very, max_length=2048)
    assert report["metrics"]["accuracy"] == 1.0 and not report["warnings"]


def test_an_engine_for_shorter_rows_names_its_build(
    tmp_path: Path, long_rows: Path, engine: Path
) -> None:
    """A compiled engine takes what its shapes do, and its baseline is then cut there too."""
    compiled = engine_directory(
        tmp_path / "c", strategy="fp32", max_length=512, builder={"shapes": {"max": [32, 128]}}
    )
    report = evaluate(compiled, long_rows, baseline=engine)
    assert report["data"]["max_length"] == 128
    assert "the engine (by the --max-shape of its build) takes no more" in report["warnings"][0]
    with pytest.raises(
        PlanError, match=r"--max-length is 256, and the engine \(by the --max-shape"
    ):
        evaluate(compiled, long_rows, max_length=256)
    report = evaluate(engine, long_rows, baseline=compiled)
    assert "the baseline takes no more" in report["warnings"][0]


@pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
def test_the_cut_stands_in_table_page_and_card(
    engine: Path,
    long_rows: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # no line is wrapped
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    page, card = tmp_path / "x.html", tmp_path / "card.md"
    manifests.edit(engine, "engine", source={"path": "model", "sha256": "0" * 64}, calibration=None)
    words = ["eval", str(engine), "--data", str(long_rows), "--no-latency", "--max-length", "100"]
    assert main([*words, "--html", str(page), "--card", str(card)]) == 0
    out = capsys.readouterr().out
    assert "median 100, 95 % up to 100, at most 100" in out
    cut = "40, 100.0 % (at 100 tokens)"
    assert cut in out
    html = page.read_text("utf-8")
    assert "rows cut; at 100 tokens" in html and "40, 100.0 %" in html
    assert f"| rows cut | {cut} |" in card.read_text("utf-8")
    assert main(words[:-2]) == 0
    assert "none (at 512 tokens)" in capsys.readouterr().out


# Memory


def test_long_rows_come_in_smaller_batches() -> None:
    encoder = TextEncoder(tokenizer(), TokenizerFacts(BagEngine.input_names, 4096))
    texts = ["yes " * count for count in (10, 10, 10, 500, 500, 1000, 3000)]
    engine = BagEngine(table())
    logits = predict_logits(
        engine, encoder, encoder.encode(rows_from_texts(texts * 70)), batch_size=64
    )
    assert len(logits) == 490
    assert max(rows * width for rows, width in engine.shapes) <= RUN_TOKENS
    assert all(rows == 1 or rows * width**2 <= RUN_PAIRS for rows, width in engine.shapes)
    assert max(rows for rows, _ in engine.shapes) == 64  # short rows come as asked for
    assert {rows for rows, width in engine.shapes if width == 3002} == {1}


# Against the calibration


@pytest.mark.parametrize(("calibrated", "said"), [(250, False), (20, True)])
def test_a_calibration_on_rows_of_other_lengths_is_named(
    tmp_path: Path, long_rows: Path, calibrated: int, said: bool
) -> None:
    rng = np.random.default_rng(0)
    kept = [int(n) for n in rng.normal(calibrated, 3, 64)]
    calibration = {
        "data": "x",
        "seed": 0,
        "rows": 64,
        "row_lengths": kept,
        "truncated": 0,
        "max_length": 512,
    }
    engine = engine_directory(
        tmp_path / "e", max_length=512, strategy="fp32", calibration=calibration
    )
    report = evaluate(engine, long_rows)
    found = [text for text in report["warnings"] if "other lengths" in text]
    assert bool(found) == said
    assert report["data"]["calibration"]["lengths"]["median"] == pytest.approx(calibrated, abs=5)
    if said:
        assert "(median 20, 95 % up to 2" in found[0] and "(median 257, 95 % up to 257" in found[0]
        assert json.dumps(report)
