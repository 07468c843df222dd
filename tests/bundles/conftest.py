"""Engines that are laid out, of every head that has a format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

import qdeploy
from tests.evaluate.heads import head_checkpoint
from tests.once import Once
from tests.sentence_models import sentence_checkpoint
from tests.tiny import tiny_checkpoint

TEXTS = ["the river of the north", "king", "what is the name of the old city", "war and music"]


Heads = Mapping[str, Callable[[Path], object]]  # writes a checkpoint, by the name of the head

FIRST: Heads = {
    "embeds": lambda place: sentence_checkpoint(
        place, more={"prompts": {"query": "what is "}, "similarity_fn_name": "dot"}
    ),
    "dense": lambda place: sentence_checkpoint(place, parts=("Dense", "Normalize")),
    "prompted": lambda place: sentence_checkpoint(
        place,
        more={"prompts": {"query": "what is "}, "default_prompt_name": "query"},
        pooling="cls",
    ),
    "reranker": lambda place: head_checkpoint(place, ["LABEL_0"]),
    "classes": lambda place: _special(head_checkpoint(place, ["bad", "good"])),
}
OTHERS: Heads = {
    "tags": lambda place: head_checkpoint(
        place, ["O", "B-PER", "I-PER", "B-LOC"], auto="Token", hidden=64
    ),
    "topics": lambda place: head_checkpoint(
        place, ["a", "b", "c"], hidden=64, problem_type="multi_label_classification"
    ),
    "values": lambda place: head_checkpoint(place, ["x", "y"], problem_type="regression"),
    "distil": lambda place: sentence_checkpoint(place, "distilbert", pooling="cls", hidden=64),
    "spans": lambda place: tiny_checkpoint(place, "roberta", "question-answering"),
}
ONNX_ALONE = ("dense", "prompted", "values", "distil")  # no engine for OpenVINO


def _special(checkpoint: Path) -> Path:
    """A token that is a special one beside those of the model, as transformers 5 lists it."""
    path = checkpoint / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8")) | {"extra_special_tokens": ["[SEP]"]}
    path.write_text(json.dumps(config), "utf-8")
    return checkpoint


def _make(home: Path, heads: Heads, targets: Sequence[str] = ("ort-cpu", "openvino")) -> None:
    for head, write in heads.items():
        write(home / f"{head}-checkpoint")
        qdeploy.export(home / f"{head}-checkpoint", home / head)
        for target in targets:
            if target == "openvino" and head in ONNX_ALONE:
                continue
            place = home / f"{head}-{target}"
            qdeploy.build(home / head, place, strategy="w8a8", target=target, measure=False,
                          data="qnli-mini", calibration_rows=16)  # fmt: skip


@pytest.fixture(scope="session")
def engines(once: Once) -> Path:
    """Folder of engines `<head>-<target>` in INT8 of `FIRST`; not to be changed."""
    pytest.importorskip("openvino")
    return once("bundled", 1, lambda home: _make(home, FIRST))[0]


@pytest.fixture(scope="session")
def other_engine(once: Once) -> Callable[[str], Path]:
    """One such engine of `OTHERS`, by its name."""

    def find(name: str) -> Path:
        pytest.importorskip("openvino")
        head, _, target = name.partition("-")
        own = {head: OTHERS[head]}
        return once("bundled", name, lambda home: _make(home, own, (target,)))[0] / name

    return find
