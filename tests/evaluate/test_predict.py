"""Logits come back in row order, whatever the batches were."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.data import rows_from_texts
from qdeploy.data.tokenize import TextEncoder
from qdeploy.data.tokenizer_files import TokenizerFacts
from qdeploy.errors import ModelError, VerificationError
from qdeploy.evaluate.predict import predict_logits
from tests.evaluate.bag import MAX_LENGTH, WORDS, BagEngine, table, tokenizer

ENCODER = TextEncoder(tokenizer(), TokenizerFacts(BagEngine.input_names, MAX_LENGTH))
SENTENCE = st.lists(st.sampled_from(WORDS[4:]), min_size=1, max_size=20).map(" ".join)


@given(texts=st.lists(SENTENCE, min_size=1, max_size=20), batch_size=st.integers(1, 9))
def test_batches_change_nothing(texts: list[str], batch_size: int) -> None:
    engine, rows = BagEngine(table()), rows_from_texts(texts)
    encoded = ENCODER.encode(rows, MAX_LENGTH)
    logits = predict_logits(engine, ENCODER, encoded, batch_size=batch_size)
    expected = [engine.votes[ids].sum(axis=0) for ids in encoded.tokens["input_ids"]]
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert all(shape[0] <= batch_size for shape in engine.shapes)


def test_progress_counts_rows() -> None:
    calls: list[tuple[str, int, int]] = []
    encoded = ENCODER.encode(rows_from_texts(["yes"] * 5), MAX_LENGTH)
    predict_logits(
        BagEngine(table()), ENCODER, encoded, batch_size=2, progress=lambda *a: calls.append(a)
    )
    assert calls == [("accuracy", 2, 5), ("accuracy", 4, 5), ("accuracy", 5, 5)]


def test_logits_that_are_not_finite_are_an_error() -> None:
    votes = table()
    votes[WORDS.index("no")] = np.nan
    encoded = ENCODER.encode(rows_from_texts(["yes", "yes w1", "no"]), MAX_LENGTH)
    with pytest.raises(
        VerificationError, match=r"not finite for 1 of 3 rows \(first: row 3, \[nan"
    ):
        predict_logits(BagEngine(votes), ENCODER, encoded)


def test_an_engine_without_logits() -> None:
    engine = BagEngine(table())
    engine.output_names = ("start_logits", "end_logits")
    encoded = ENCODER.encode(rows_from_texts(["yes"]), MAX_LENGTH)
    with pytest.raises(ModelError, match="gives start_logits, end_logits, and 'logits' was exp"):
        predict_logits(engine, ENCODER, encoded)
