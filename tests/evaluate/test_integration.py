"""The bag-of-words engine in ONNX Runtime: the same figures as in numpy, from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qdeploy.deploy.open import open_engine
from qdeploy.evaluate.latency import LatencyProtocol, fixed_feeds
from qdeploy.evaluate.loaded_engine import load_engine
from qdeploy.evaluate.predictor import Predictor
from qdeploy.evaluate.run import evaluate_engine
from tests.evaluate.bag import engine_directory, load_bag, write_rows

pytestmark = pytest.mark.integration


def test_onnx_runtime_and_numpy_agree(tmp_path: Path) -> None:
    from qdeploy.data import read_rows

    directory = engine_directory(tmp_path / "engine")
    rows = read_rows(write_rows(tmp_path / "rows.tsv"))
    encoder = load_engine(directory, 1).encoder
    feeds = fixed_feeds(encoder, rows, LatencyProtocol(batch_size=4, seq_len=32))
    real, numpy = open_engine(directory, threads=1), load_bag(directory)
    assert real.output_names == ("logits",) and set(real.input_names) == set(numpy.input_names)
    expected = numpy.run(feeds)["logits"]
    np.testing.assert_allclose(real.run(feeds)["logits"], expected, atol=1e-5)


def test_predictor(tmp_path: Path) -> None:
    predictor = Predictor(engine_directory(tmp_path / "engine"), threads=1)
    assert [p.label for p in predictor.predict([("w1", "no"), ("w2", "yes")])] == [
        "not_entailment",
        "entailment",
    ]


def test_whole_evaluation(tmp_path: Path) -> None:
    directory = engine_directory(tmp_path / "engine", strategy="fp32")
    rows = write_rows(tmp_path / "rows.tsv", wrong=6)
    report = evaluate_engine(
        directory, data=rows, baseline=directory, seq_len=16, warmup=5, iterations=100, threads=1
    )
    assert report["metrics"]["accuracy"] == 0.9
    assert report["baseline"]["equal_logits"]
    assert report["int8"]["planned"] == 0
    low, high = report["speedup"]["ci95"]
    assert 0.5 < low <= high < 2
    assert report["memory_mb"]["peak"] > report["memory_mb"]["interpreter"]
