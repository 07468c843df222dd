"""Canary rows: what is stored, and when outputs of elsewhere pass."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdeploy.calibrate.batches import MASK, Sample
from qdeploy.calibrate.canary_rows import Taken, canary_rows
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.canary import CANARY, canary_of, read_canary, run_canary, write_canary
from qdeploy.errors import ModelError
from qdeploy.files.artifact import read_manifest
from qdeploy.head import EMBEDDINGS, SEQUENCES, SPANS, TOKENS, Head, head_of
from qdeploy.types import Array
from tests.deploy.conftest import Built, Source

pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")


def shapes(sample: Sample) -> list[tuple[int, ...]]:
    return [feeds["input_ids"].shape for feeds in sample.batches]


def test_rows_are_of_all_lengths_and_batches(bert: Source) -> None:
    found = canary_rows(bert.directory, Taken()).sample
    longest = bert.manifest()["max_length"]
    assert [shape[0] for shape in shapes(found)] == [1, 1, 2, 4, 8] and found.rows == 16
    lengths = [int(n) for feeds in found.batches for n in feeds[MASK].sum(axis=1)]
    assert min(lengths) == 3 and max(lengths) == longest and len(set(lengths)) >= 8
    assert shapes(found)[3][1] > found.batches[3][MASK].sum(axis=1).max()  # padding alone
    again = canary_rows(bert.directory, Taken()).sample
    for one, other in zip(found.batches, again.batches, strict=True):
        assert all((one[name] == other[name]).all() for name in one)
    types = np.concatenate([feeds["token_type_ids"].max(axis=1) for feeds in found.batches])
    assert {0, 1} == set(types.tolist())  # texts and pairs


def test_rows_are_those_that_an_engine_takes(bert: Source) -> None:
    taken = Taken(shortest=4, longest=16, fewest=2, most=3)
    for rows, tokens in shapes(canary_rows(bert.directory, taken).sample):
        assert 2 <= rows <= 3 and tokens <= 16
    lengths = [f[MASK].sum(axis=1) for f in canary_rows(bert.directory, taken).sample.batches]
    assert min(map(min, lengths)) == 4


def test_no_text_of_the_calibration_is_kept(bert: Source, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    lines = [f"who was king {n}?,the secret of the river {n},entailment" for n in range(40)]
    rows.write_text("question,sentence,label\n" + "\n".join(lines), "utf-8")
    options: dict[str, Any] = {"task": "qnli", "calibration_rows": 8}
    build_engine(bert.directory, tmp_path / "own", data=str(rows), **options)
    build_engine(bert.directory, tmp_path / "mini", data="qnli-mini", **options)
    own, mini = (read_canary(tmp_path / name) for name in ("own", "mini"))
    assert [b["inputs"] for b in own["batches"]] == [b["inputs"] for b in mini["batches"]]
    assert own["texts"] == mini["texts"]


class Said:
    """An engine whose outputs are given."""

    def __init__(self, outputs: Mapping[str, Array]) -> None:
        self.outputs = outputs

    def run(self, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        return self.outputs


IDS = np.array([[1, 5, 2], [1, 2, 0]])
SAMPLE = Sample("rows", 2, ({"input_ids": IDS, MASK: (IDS > 0).astype(np.int64)},))
HEADS: dict[str, tuple[Head, tuple[str, ...], tuple[int, ...]]] = {
    "classes": (Head(SEQUENCES, ("a", "b")), ("logits",), (2, 2)),
    "tokens": (Head(TOKENS, ("a", "b", "c")), ("logits",), (2, 3, 3)),
    "answers": (Head(SPANS, ()), ("start_logits", "end_logits"), (2, 3)),
    "embeddings": (Head(EMBEDDINGS, ()), ("sentence_embedding",), (2, 6)),
}


@pytest.mark.parametrize("kind", HEADS)
def test_every_head_is_kept_and_compared(kind: str, tmp_path: Path) -> None:
    head, names, shape = HEADS[kind]
    rng = np.random.default_rng(0)
    outputs = {name: rng.standard_normal(shape).astype(np.float32) for name in names}
    noisy = {n: v + np.float32(0.03) * rng.standard_normal(shape).astype(np.float32)
             for n, v in outputs.items()}  # fmt: skip
    canary = canary_of(SAMPLE, [], [outputs], [noisy], head)
    assert canary is not None
    write_canary(tmp_path, canary)
    stored = read_canary(tmp_path)
    bounds = stored["tolerance"]
    assert bounds["sqnr_db"] == pytest.approx(stored["noise"]["sqnr_db"] - 6, abs=0.02)
    assert bounds["max_abs_diff"] == pytest.approx(3 * stored["noise"]["max_abs_diff"], rel=1e-3)
    same = run_canary(Said(noisy), stored, head)
    assert same.equal == 2 and same.sqnr_db == math.inf and set(same.row_diffs) == {0}
    if not head.of_rows:  # what stands at padding is nobody's output
        padded = {name: values.copy() for name, values in noisy.items()}
        for values in padded.values():
            values[1, 2:] = np.nan
        assert run_canary(Said(padded), stored, head).equal == 2
    other = {name: values.copy() for name, values in noisy.items()}
    other[names[-1]][1, 0] += 1
    changed = run_canary(Said(other), stored, head)
    assert changed.equal == 1 and changed.row_diffs[0] == 0
    assert changed.row_diffs[1] == pytest.approx(1, abs=1e-6)
    assert changed.row_diffs[1] > bounds["max_abs_diff"]
    other[names[0]][0, 0] = np.nan
    broken = run_canary(Said(other), stored, head)
    assert broken.sqnr_db == -math.inf and broken.row_diffs[0] == math.inf


def test_tolerances_have_ends() -> None:
    head = HEADS["classes"][0]
    exact = {"logits": np.array([[3, -3], [-2, 2]], np.float32)}
    equal = canary_of(SAMPLE, [], [exact], [exact], head)
    assert equal["noise"] == {"sqnr_db": None, "max_abs_diff": 0.0}
    assert equal["tolerance"] == {"sqnr_db": 60.0, "max_abs_diff": 0.003}
    swapped = {"logits": exact["logits"][:, ::-1]}
    noisy = canary_of(SAMPLE, [], [exact], [swapped], head)
    assert noisy["tolerance"]["sqnr_db"] == 3.0
    nothing: dict[str, Array] = {"logits": np.full((2, 2), np.nan, np.float32)}
    assert canary_of(SAMPLE, [], [exact], [nothing], head) is None


def test_numbers_read_back_as_they_were(engine: Callable[..., Built]) -> None:
    directory = engine(strategy="w8a8").directory
    text = (directory / CANARY).read_text("utf-8")
    canary = read_canary(directory)
    assert json.loads(text) == canary
    for batch in canary["batches"]:
        values = np.array(batch["outputs"]["logits"])
        assert (values.astype(np.float32).astype(np.float64) == values.astype(np.float32)).all()
    head = head_of(directory, read_manifest(directory, "engine"))
    assert head.task == SEQUENCES and canary["rows"] == 16


def test_a_damaged_canary_is_refused(tmp_path: Path, engine: Callable[..., Built]) -> None:
    canary = read_canary(engine(strategy="w8a8").directory)
    canary["batches"][0]["outputs"]["logits"].append([1.0])
    (tmp_path / CANARY).write_text(json.dumps(canary), "utf-8")
    with pytest.raises(ModelError, match=r"rows of logits differ in length.*batches\[0\]"):
        read_canary(tmp_path)
    (tmp_path / CANARY).write_text(json.dumps(canary | {"batches": []}), "utf-8")
    with pytest.raises(ModelError, match="no batches"):
        read_canary(tmp_path)
