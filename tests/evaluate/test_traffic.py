"""Traffic: which batches run, and what is made of their times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdeploy.data import rows_from_texts
from qdeploy.data.tokenize import TextEncoder
from qdeploy.data.tokenizer_files import TokenizerFacts
from qdeploy.evaluate import traffic
from qdeploy.evaluate.latency import LatencyProtocol
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.evaluate.rounds import LEAST_ROUNDS, Timed
from qdeploy.evaluate.traffic import Load, TrafficRuns, about_traffic, measure_traffic
from qdeploy.head import SEQUENCES, Head
from qdeploy.schemas.evaluation import GIVEN, SORTED
from qdeploy.types import Array
from tests.evaluate.bag import CLASSES, MAX_LENGTH, BagEngine, table, tokenizer

TEXTS = ["w1 " * (1 + at % 20) for at in range(41)]
ROWS = rows_from_texts(TEXTS)


def subject(max_length: int = MAX_LENGTH) -> LoadedEngine:
    encoder = TextEncoder(tokenizer(), TokenizerFacts(BagEngine.input_names, max_length))
    head = Head(SEQUENCES, CLASSES)
    manifest: Any = {}
    return LoadedEngine(Path("e"), manifest, BagEngine(table()), encoder, head)


def measure(subjects: list[LoadedEngine], rows: Any = ROWS, **options: Any) -> list[TrafficRuns]:
    protocol = LatencyProtocol(batch_size=4, warmup=0, iterations=options.pop("iterations", 10))
    given = {"max_length": MAX_LENGTH, "seconds": 1.0} | options
    return measure_traffic(subjects, rows, protocol, **given)


def loads(found: list[TrafficRuns]) -> list[tuple[str, int]]:
    return [(one.load.order, one.load.batch_size) for one in found]


def shapes(one: LoadedEngine) -> list[tuple[int, ...]]:
    assert isinstance(one.engine, BagEngine)
    return one.engine.shapes


def test_batches_are_rows_as_they_come_padded_to_the_longest_of_each() -> None:
    own, base = subject(), subject()
    found = measure([own, base])
    # the batch size of the fixed shape beside those of servers, and a batch job's
    assert loads(found) == [(GIVEN, 1), (GIVEN, 4), (GIVEN, 8), (GIVEN, 32), (SORTED, 32)]
    four = found[1]
    assert (four.batches, four.timed.iterations) == (10, 10)
    expected = sorted((4, 2 + max(1 + at % 20 for at in range(s, s + 4))) for s in range(0, 40, 4))
    for one in (own, base):
        assert sorted(shape for shape in shapes(one) if shape[0] == 4) == expected
    assert shapes(own) == shapes(base)  # both met the same batches in one order
    assert sorted(four.tokens) == sorted(3 + at % 20 for at in range(40))
    assert four.places == sum(rows * width for rows, width in expected)


def test_sorted_batches_are_of_the_whole_set_and_in_any_order() -> None:
    own = subject()
    rows = rows_from_texts(["w1 " * (1 + at % 20) for at in range(320)])
    offline = measure([own], rows, iterations=10)[-1]
    assert (offline.load, offline.batches) == (Load(SORTED, 32), 10)
    # 16 rows of each length: two lengths fill a batch, the longer one is its width
    widths = [width for _, width in shapes(own)[-10:]]
    assert sorted(widths) == list(range(4, 23, 2))
    assert widths != sorted(widths) and widths != sorted(widths, reverse=True)
    assert offline.places == 32 * sum(range(4, 23, 2)) and len(offline.tokens) == 320


@pytest.mark.parametrize("rows", [33, 63, 64, 100])
def test_sorted_rows_that_are_left_over_are_any(rows: int) -> None:
    """Not the shortest: a mean over the others would be of the longest."""
    texts = ["w1 " * (1 + at % 20) for at in range(rows)]
    tokens = [measure([subject()], rows_from_texts(texts), seed=s)[-1].tokens for s in range(30)]
    assert {len(found) for found in tokens} == {rows // 32 * 32}
    assert abs(np.mean(tokens) - np.mean([3 + at % 20 for at in range(rows)])) < 1


def test_engines_compiled_for_some_shapes_get_batches_that_they_take() -> None:
    manifest: Any = {"builder": {"shapes": {"min": [2, 8], "opt": [4, 16], "max": [12, 64]}}}
    narrow = replace(subject(), manifest=manifest)
    found = measure([narrow, subject()])
    assert loads(found) == [(GIVEN, 2), (GIVEN, 4), (GIVEN, 8), (GIVEN, 12), (SORTED, 12)]
    assert {rows for rows, _ in shapes(narrow)} == {2, 4, 8, 12}


def test_fewer_rows_than_a_batch_run_together_and_are_not_sorted() -> None:
    own = subject()
    found = measure([own], rows_from_texts(["w1", "w2 w3", "w4"]), iterations=7)
    assert loads(found) == [(GIVEN, 1), (GIVEN, 3)]
    assert found[1].batches == 1 and shapes(own)[-7:] == [(3, 4)] * 7


def test_the_batches_of_a_large_file_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "_MOST_ROWS", 36)
    first, again, other = (measure([subject()], seed=seed)[1] for seed in (0, 0, 1))
    assert first.batches == 9 and first.tokens.tolist() == again.tokens.tolist()
    assert first.tokens.tolist() != other.tokens.tolist()


def test_very_long_rows_come_in_smaller_batches() -> None:
    own = subject(4096)
    rows = rows_from_texts(["w1 " * 2046] * 12)
    found = measure([own], rows, max_length=4096, iterations=2)
    # what would be the same batches again is not run again
    assert loads(found) == [(GIVEN, 1), (GIVEN, 2)]
    assert shapes(own)[-2:] == [(2, 2048)] * 2


def test_time_that_is_left_goes_to_the_next() -> None:
    protocol = LatencyProtocol(batch_size=4)
    found = measure_traffic([subject()], ROWS, protocol, max_length=MAX_LENGTH, seconds=0)
    assert [one.timed.iterations for one in found] == [LEAST_ROUNDS] * 5


def section(*engines: list[Array]) -> Any:
    timed = Timed(list(engines), warmup=2, seconds=1.26, ended_by_time=True)
    tokens = np.array([10, 20, 30, 20])
    return about_traffic(TrafficRuns(Load(GIVEN, 4), 9, tokens, 100, timed), seed=0)


def test_figures() -> None:
    rounds = [[np.array([10.0, 30.0])] * 10, [np.array([20.0, 60.0])] * 10]
    own, base = section(*rounds)
    assert own == {
        "order": "given",
        "batch_size": 4,
        "batches": 9,
        "padding": pytest.approx(0.2),
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
    ratios, _ = section(*mixed)
    assert ratios["speedup"] == {"ratio": 2.0, "ci95": [2.0, 2.0]}  # not 600 / 30, nor 680 / 240
    assert base == {"latency_ms": {"p50": 40.0, "p95": 60.0}, "rows_per_s": 100.0}
    alone, nobody = section(rounds[0])
    assert alone["speedup"] is None and nobody is None
