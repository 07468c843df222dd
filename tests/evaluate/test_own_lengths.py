"""Latency at the data's own lengths: which batches run, and what is made of their times."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdeploy.data import rows_from_texts
from qdeploy.data.tokenize import TextEncoder
from qdeploy.data.tokenizer_files import TokenizerFacts
from qdeploy.evaluate import own_lengths
from qdeploy.evaluate.latency import LatencyProtocol
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.own_lengths import OwnLengthRuns, about_own_lengths, measure_own_lengths
from qdeploy.evaluate.rounds import Timed
from qdeploy.head import SEQUENCES, Head
from tests.evaluate.bag import CLASSES, MAX_LENGTH, BagEngine, table, tokenizer

TEXTS = ["w1 " * (1 + at % 20) for at in range(41)]
ROWS = rows_from_texts(TEXTS)


def subject(max_length: int = MAX_LENGTH) -> LoadedEngine:
    encoder = TextEncoder(tokenizer(), TokenizerFacts(BagEngine.input_names, max_length))
    head = Head(SEQUENCES, CLASSES)
    manifest: Any = {}
    return LoadedEngine(Path("e"), manifest, BagEngine(table()), encoder, head)


def measure(subjects: list[LoadedEngine], rows: Any = ROWS, **options: Any) -> OwnLengthRuns:
    protocol = LatencyProtocol(batch_size=4, warmup=0, iterations=options.pop("iterations", 10))
    given = {"max_length": MAX_LENGTH, "seconds": 1.0} | options
    return measure_own_lengths(subjects, rows, protocol, **given)


def test_batches_are_rows_as_they_come_padded_to_the_longest_of_each() -> None:
    own, base = subject(), subject()
    found = measure([own, base])
    assert (found.batch_size, found.batches, found.timed.iterations) == (4, 10, 10)
    expected = sorted((4, 2 + max(1 + at % 20 for at in range(s, s + 4))) for s in range(0, 40, 4))
    for one in (own, base):
        assert isinstance(one.engine, BagEngine)
        assert sorted(one.engine.shapes) == expected
    assert isinstance(own.engine, BagEngine) and isinstance(base.engine, BagEngine)
    assert own.engine.shapes == base.engine.shapes  # both met the same batches in one order
    assert sorted(found.tokens) == sorted(3 + at % 20 for at in range(40))


def test_fewer_batches_than_runs_come_again() -> None:
    own = subject()
    found = measure([own], rows_from_texts(["w1", "w2 w3", "w4"]), iterations=7)
    assert isinstance(own.engine, BagEngine)
    assert (found.batch_size, found.batches) == (3, 1)
    assert own.engine.shapes == [(3, 4)] * 7


def test_the_batches_of_a_large_file_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_lengths, "ITERATIONS", 3)
    first, again, other = (measure([subject()], seed=seed) for seed in (0, 0, 1))
    assert first.batches == 3 and first.tokens.tolist() == again.tokens.tolist()
    assert first.tokens.tolist() != other.tokens.tolist()


def test_very_long_rows_come_in_smaller_batches() -> None:
    own = subject(4096)
    rows = rows_from_texts(["w1 " * 2046] * 12)
    found = measure([own], rows, max_length=4096, iterations=2)
    assert isinstance(own.engine, BagEngine)
    assert found.batch_size == 2 and own.engine.shapes == [(2, 2048)] * 2


def test_figures() -> None:
    rounds = [[np.array([10.0, 30.0])] * 10, [np.array([20.0, 60.0])] * 10]
    timed = Timed(rounds, warmup=2, seconds=1.26, ended_by_time=True)
    own, base = about_own_lengths(OwnLengthRuns(4, 9, np.array([10, 20, 30]), timed), seed=0)
    assert own == {
        "batch_size": 4,
        "batches": 9,
        "tokens": {"median": 20.0, "p95": 30.0},
        "warmup": 2,
        "iterations": 20,
        "seconds": 1.3,
        "ended_by_time": True,
        "latency_ms": {"p50": 20.0, "p95": 30.0},
        "rows_per_s": 200.0,
        "speedup": {"ratio": 2.0, "ci95": [2.0, 2.0]},
    }
    mixed = [[np.array([10.0, 30.0, 200.0])] * 10, [np.array([20.0, 60.0, 600.0])] * 10]
    uneven = Timed(mixed, warmup=2, seconds=1.0, ended_by_time=True)
    ratios, _ = about_own_lengths(OwnLengthRuns(4, 9, np.array([10]), uneven), seed=0)
    assert ratios["speedup"] == {"ratio": 2.0, "ci95": [2.0, 2.0]}  # not 600 / 30, nor 680 / 240
    assert base == {"latency_ms": {"p50": 40.0, "p95": 60.0}, "rows_per_s": 100.0}
    alone, nobody = about_own_lengths(
        OwnLengthRuns(4, 9, np.array([10]), Timed(rounds[:1], 2, 1.0, False)), seed=0
    )
    assert alone["speedup"] is None and nobody is None
