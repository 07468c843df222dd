"""The same rows in other company: which engines answer them alike."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdeploy
from qdeploy.data import rows_from_texts
from qdeploy.data.tokenize import TextEncoder
from qdeploy.data.tokenizer_files import TokenizerFacts
from qdeploy.errors import VerificationError
from qdeploy.evaluate.loaded_engine import load_engine
from qdeploy.evaluate.neighbours import neighbours_of
from qdeploy.head import MULTI_LABEL, REGRESSION, SEQUENCES, TOKENS, Head
from tests.evaluate.bag import MAX_LENGTH, BagEngine, table, tokenizer
from tests.exports import Exports

ENCODER = TextEncoder(tokenizer(), TokenizerFacts(BagEngine.input_names, MAX_LENGTH))
TEXTS = [f"w{at % 26} yes" + " w3" * (at % 7) for at in range(40)]
ROWS = rows_from_texts(TEXTS)


class Company(BagEngine):
    """Adds to each row what the others of its batch are, or how far they are padded."""

    def __init__(self, neighbours: float = 0.0, padding: float = 0.0) -> None:
        super().__init__(table())
        self.neighbours, self.padding = neighbours, padding

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        logits = super().run(feeds)["logits"]
        company = int(feeds["input_ids"].sum()) % 9 - 4
        shift = self.neighbours * company + self.padding * feeds["input_ids"].shape[1]
        return {"logits": logits + np.array([-shift, shift], np.float32)}


def test_an_engine_that_answers_each_row_for_itself() -> None:
    engine = Company()
    found = neighbours_of(engine, ENCODER, ROWS, batch_size=8)
    assert found == {
        "rows": 40,
        "batch_size": 8,
        "max_abs_diff": 0.0,
        "flipped": 0,
        "padding": {"max_abs_diff": 0.0, "flipped": 0},
        "summary": "An answer does not depend on the rows beside it",
    }
    assert len(engine.shapes) == 15 and {shape[0] for shape in engine.shapes} == {8}


def test_what_changes_with_the_neighbours_is_not_what_changes_with_the_padding() -> None:
    found = neighbours_of(Company(neighbours=1.0), ENCODER, ROWS, batch_size=4)
    assert found is not None
    assert found["max_abs_diff"] >= 1 and found["flipped"] > 0
    assert found["padding"] == {"max_abs_diff": 0.0, "flipped": 0}
    assert found["summary"].startswith("An answer depends on the rows beside it: up to ")
    assert f"{found['flipped']} of 40 answers change" in found["summary"]

    found = neighbours_of(Company(padding=0.01), ENCODER, ROWS, batch_size=4)
    assert found is not None
    assert found["max_abs_diff"] == 0 and found["padding"]["max_abs_diff"] > 0.005
    assert (
        "does not depend on the rows beside it; their padding changes it: up to"
        in (found["summary"])
    )


def test_rounding_is_called_so() -> None:
    found = neighbours_of(Company(neighbours=1e-7), ENCODER, ROWS, batch_size=4)
    assert found is not None and 0 < found["max_abs_diff"] < 1e-5
    assert "depends on the rows beside it, in its last digits alone: up to" in found["summary"]


def test_cost_is_bounded() -> None:
    many = rows_from_texts([f"w{at % 26} no" for at in range(1000)])
    engine = BagEngine(table())
    found = neighbours_of(engine, ENCODER, many, batch_size=8)
    assert found is not None and found["rows"] == 128
    assert sum(shape[0] for shape in engine.shapes) == 3 * 128
    long = TextEncoder(tokenizer(), TokenizerFacts(BagEngine.input_names, 4096))
    engine = BagEngine(table())
    found = neighbours_of(
        engine, long, rows_from_texts(["w1 " * 3000] * 40), batch_size=8, max_length=2048
    )
    assert found is not None and (found["rows"], found["batch_size"]) == (8, 2)
    assert all(np.prod(shape) <= 4096 for shape in engine.shapes)


@pytest.mark.parametrize(("rows", "batch"), [(1, 8), (40, 1), (3, 8)])
def test_no_company_no_answer(rows: int, batch: int) -> None:
    assert neighbours_of(BagEngine(table()), ENCODER, ROWS.take(rows), batch_size=batch) is None


def test_rows_of_a_batch_meet_others() -> None:
    """Of 40 rows in batches of 4, no two that stood together stand together again."""
    seen: list[frozenset[bytes]] = []

    class Noting(BagEngine):
        def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
            seen.append(frozenset(row.tobytes() for row in feeds["input_ids"]))
            return super().run(feeds)

    rows = rows_from_texts([f"w{a} w{b}" for a in range(5) for b in range(8)])
    neighbours_of(Noting(table()), ENCODER, rows, batch_size=4)
    first, other = seen[:10], seen[10:20]
    assert frozenset().union(*first) == frozenset().union(*other)
    assert max(len(a & b) for a in first for b in other) == 1


@pytest.mark.parametrize(
    ("head", "flips"),
    [
        (Head(SEQUENCES, ("a", "b"), MULTI_LABEL), True),
        (Head(SEQUENCES, ("a", "b"), REGRESSION), None),
        (Head(SEQUENCES, ("a", "b")), True),
    ],
)
def test_heads(head: Head, flips: bool | None) -> None:
    found = neighbours_of(Company(neighbours=1.0), ENCODER, ROWS, head=head)
    assert found is not None
    assert (found["flipped"] is None) if flips is None else found["flipped"] > 0
    assert ("answers" in found["summary"]) == (flips is not None)


def test_tokens_are_compared_without_the_padding() -> None:
    class Tokens(BagEngine):
        def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
            values = self.votes[feeds["input_ids"]].copy()
            values[feeds["attention_mask"] == 0] = feeds["input_ids"].shape[1]
            return {"logits": values}

    found = neighbours_of(Tokens(table()), ENCODER, ROWS, head=Head(TOKENS, ("a", "b")))
    assert found is not None
    assert (found["max_abs_diff"], found["padding"]["max_abs_diff"]) == (0, 0)


def test_logits_that_are_not_finite() -> None:
    with pytest.raises(VerificationError, match="not finite"):
        neighbours_of(BagEngine(np.full_like(table(), np.nan)), ENCODER, ROWS)


@pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
def test_dynamic_depends_and_peg_does_not(exported: Exports, tmp_path: Path) -> None:
    """In ONNX Runtime, on the tiny BERT: scales of the batch against scales of calibration."""
    model = shutil.copytree(exported(hidden=64).model_dir, tmp_path / "model")
    rows = rows_from_texts(
        ["what is the river " + "king " * (at % 9) + str(at) for at in range(32)]
    )
    found = {}
    for strategy in ("dynamic", "peg"):
        qdeploy.build(
            model, tmp_path / strategy, strategy=strategy, calibration_rows=8, measure=False
        )
        subject = load_engine(tmp_path / strategy, 1)
        found[strategy] = neighbours_of(subject.engine, subject.encoder, rows, head=subject.head)
    assert found["dynamic"] is not None and found["dynamic"]["max_abs_diff"] > 1e-4
    assert found["peg"] is not None and found["peg"]["max_abs_diff"] == 0
