"""An engine directory in Optimum's `ORTModelForSequenceClassification`.

optimum-onnx 0.1.0 wants transformers < 4.58 and the exporter transformers 5, so Optimum lives in an
environment of its own (`tests.environments`).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests.deploy.conftest import Built, Source
from tests.deploy.tolerances import SAME_ENGINE
from tests.environments import INSTALL_SECONDS, SENTENCE, python_of

SCRIPT = """
import json, sys
import numpy as np
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import PreTrainedTokenizerFast

directory, texts, pairs = sys.argv[1], *map(json.loads, sys.argv[2:])
model = ORTModelForSequenceClassification.from_pretrained(directory)
# not AutoTokenizer: transformers 5 writes the name of a class that transformers 4 does not know
tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
batch = tokenizer(texts, pairs, padding=True, return_tensors="np")
ids = {name: array.tolist() for name, array in batch.items()}
print(json.dumps({
    "class": type(model).__name__,
    "labels": model.config.id2label,
    "feeds": ids,
    "logits": np.asarray(model(**batch).logits).tolist(),
}))
"""

TEXTS = ["what is the name of the river", "who built the church", "when was the king born"]
PAIRS = ["the river is known as the north water", "the school was built", "the king was born"]


@pytest.fixture(scope="module")
def optimum_python() -> Path:
    """Python of the environment that holds Optimum; skips where it cannot be made."""
    return python_of(SENTENCE)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("strategy", ["peg", "fp32"])
def test_the_engine_loads_in_optimum_and_gives_the_same_logits(
    strategy: str, optimum_python: Path, engine: Callable[..., Built], bert: Source
) -> None:
    directory = engine(strategy=strategy).directory
    arguments = [str(directory), json.dumps(TEXTS), json.dumps(PAIRS)]
    done = subprocess.run(
        [str(optimum_python), "-W", "ignore", "-c", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=INSTALL_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["class"] == "ORTModelForSequenceClassification"
    assert list(report["labels"].values()) == ["entailment", "not_entailment"]
    feeds = {name: np.array(array, np.int64) for name, array in report["feeds"].items()}
    assert len(feeds["input_ids"]) == len(TEXTS)
    session = ort.InferenceSession(directory / "model.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(["logits"], feeds)
    np.testing.assert_allclose(report["logits"], expected, atol=SAME_ENGINE)
