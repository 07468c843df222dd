"""ONNX files of one size: freed from it, and held against the file on rows padded to that size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

import qdeploy
from qdeploy.errors import CheckpointError, QDeployError, QDeployWarning, VerificationError
from qdeploy.exporter.from_onnx.align import align, spread
from tests import foreign_files as foreign
from tests.exporter.test_onnx_files import structure
from tests.exports import Exports
from tests.tiny import tiny_checkpoint

SLOW = pytest.mark.slow
FAMILIES = ("bert", "distilbert", "roberta", "electra", "mpnet", "modernbert", "albert")
FAST = {("bert", 32, (1, 32)), ("roberta", 32, (2, 16))}
CASES = [
    pytest.param(family, hidden, size, marks=() if (family, hidden, size) in FAST else SLOW)
    for family in FAMILIES
    for hidden in (32, 256)
    for size in ((1, 16), (2, 16), (1, 32), (1, 128), (2, 128))
]
B, S, BS = (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)


def number(value: int) -> tuple[int, int, int, int]:
    return value, 0, 0, 0


def check(file: Path, size: tuple[int, int], done: Exports, family: str, hidden: int) -> None:
    own, out = done(family, hidden=hidden), file.parent / "out"
    with pytest.warns(QDeployWarning, match=rf"for batches of \[{size[0]}, {size[1]}\] alone"):
        manifest = qdeploy.export(file, out, tokenizer=own.checkpoint)
    assert manifest["verification"]["max_rel_diff"] < 1e-5
    assert manifest["source"]["onnx"]["traced"] == str(list(size))
    assert manifest["max_length"] == size[1]
    long = min(size[1], 37)
    assert manifest["verification"]["shapes"] == [[1, 8], [2, long], [8, size[1]]]
    names, kinds, blocks = structure(out)
    wanted, wanted_kinds, wanted_blocks = structure(own.model_dir)
    assert (names, blocks) == (wanted, wanted_blocks)
    if family != "albert":  # whose own export leaves its Gelu written out
        assert kinds == wanted_kinds


@pytest.mark.parametrize(("family", "hidden", "size"), CASES)
def test_torchscript_of_one_size(
    family: str, hidden: int, size: tuple[int, int], tmp_path: Path, exported: Exports
) -> None:
    source = exported(family, hidden=hidden).checkpoint
    file = foreign.torchscript(source, tmp_path / "model.onnx", free=(), size=size)
    check(file, size, exported, family, hidden)


@pytest.mark.parametrize("opset", [pytest.param(11, marks=SLOW), 17])
@pytest.mark.parametrize(
    "family", ["distilbert", *(pytest.param(f, marks=SLOW) for f in ("bert", "roberta"))]
)
def test_torchs_own_attention_of_one_size(
    family: str, opset: int, tmp_path: Path, exported: Exports
) -> None:
    source, attention = exported(family).checkpoint, "eager" if opset < 14 else "sdpa"
    file = foreign.torchscript(
        source, tmp_path / "model.onnx", free=(), size=(2, 32), opset=opset, attention=attention
    )
    check(file, (2, 32), exported, family, 32)


@SLOW
@pytest.mark.parametrize(("hidden", "size"), [(32, (1, 32)), (32, (2, 32)), (256, (2, 32))])
@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_dynamo_of_one_size(
    family: str, hidden: int, size: tuple[int, int], tmp_path: Path, exported: Exports
) -> None:
    source = exported(family, hidden=hidden).checkpoint
    file = foreign.dynamo(source, tmp_path / "model.onnx", size=size)
    check(file, size, exported, family, hidden)


@pytest.mark.parametrize("hidden", [32, pytest.param(64, marks=SLOW)])
@pytest.mark.parametrize("free", [(0, 1), pytest.param((), marks=SLOW)])
@pytest.mark.filterwarnings("ignore:.*was freed from that size")
def test_what_padding_sees_of_padding_is_not_compared(
    free: tuple[int, ...], hidden: int, tmp_path: Path
) -> None:
    """In a window of 8 tokens, padding far behind the text sees none: torch's attention gives 0."""
    checkpoint = tiny_checkpoint(
        tmp_path / "modernbert", "modernbert", "token-classification", hidden=hidden,
        local_attention=8,
    )  # fmt: skip
    file = foreign.torchscript(
        checkpoint, tmp_path / "model.onnx", "token-classification", attention="sdpa", free=free,
        size=(2, 32),
    )  # fmt: skip
    manifest = qdeploy.export(file, tmp_path / "out", tokenizer=checkpoint)
    assert manifest["verification"]["max_rel_diff"] < 1e-5


@pytest.mark.parametrize(
    "task",
    [
        "token-classification",
        pytest.param("question-answering", marks=SLOW),
        pytest.param("sentence-embedding", marks=SLOW),
    ],
)
@pytest.mark.filterwarnings("ignore:.*was freed from that size")
def test_outputs_of_tokens_are_cut(task: str, tmp_path: Path) -> None:
    head = "sequence-classification" if task == "sentence-embedding" else task
    checkpoint = tiny_checkpoint(tmp_path / "bert", "bert", head)
    file = foreign.torchscript(checkpoint, tmp_path / "model.onnx", task, free=(), size=(2, 16))
    more: dict[str, Any] = {"pooling": "mean", "task": task} if task == "sentence-embedding" else {}
    manifest = qdeploy.export(file, tmp_path / "out", tokenizer=checkpoint, **more)
    assert manifest["task"] == task
    assert manifest["verification"]["max_rel_diff"] < 1e-5


@pytest.mark.parametrize(
    "size", [(1, 32), *(pytest.param(size, marks=SLOW) for size in ((2, 32), (1, 64), (2, 64)))]
)
@pytest.mark.filterwarnings("ignore:.*was freed from that size")
def test_rows_as_long_as_the_vectors_are_wide(size: tuple[int, int], tmp_path: Path) -> None:
    """The mask is expanded over tokens in the attention, over channels in the mean."""
    checkpoint = tiny_checkpoint(tmp_path / "bert", hidden=size[1])
    file = foreign.torchscript(
        checkpoint, tmp_path / "model.onnx", "pooled-embedding", free=(), size=size
    )
    manifest = qdeploy.export(file, tmp_path / "out", tokenizer=checkpoint)
    facts = manifest["head"]["embedding"]
    assert facts is not None
    assert (facts["pooling"], facts["dimension"]) == (["mean"], size[1])
    assert manifest["verification"]["max_rel_diff"] < 1e-5


@pytest.mark.filterwarnings("ignore:.*was freed from that size")
def test_what_depends_on_padding_is_refused(tmp_path: Path, exported: Exports) -> None:
    """The mean of all tokens, padding too, is another number on shorter rows."""
    checkpoint = exported().checkpoint
    file = foreign.torchscript(checkpoint, tmp_path / "model.onnx", free=(), size=(1, 16))
    model = ir.load(file)
    graph, logits = model.graph, model.graph.outputs[0]
    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    tape = ir.tape.Tape(graph)
    mean = tape.op("ReduceMean", [tape.op("Cast", [mask], {"to": 1})], {"axes": [0, 1]})
    graph.outputs[0] = tape.op("Add", [logits, tape.op("Squeeze", [mean])])
    logits.name, graph.outputs[0].name = "before", "logits"
    graph.outputs[0].shape, graph.outputs[0].type = logits.shape, logits.type
    ir.save(model, file)
    refused(file, checkpoint, r"differs from the file by .* may read padding", VerificationError)


def refused(file: Path, checkpoint: Path, match: str, kind: type[QDeployError]) -> None:
    with pytest.raises(kind, match=match):
        qdeploy.export(file, file.parent / "out", tokenizer=checkpoint)
    assert not (file.parent / "out").exists()


def test_rows_of_a_few_tokens_are_of_no_use(tmp_path: Path, exported: Exports) -> None:
    checkpoint = exported().checkpoint
    file = foreign.torchscript(checkpoint, tmp_path / "model.onnx", free=(), size=(1, 8))
    refused(file, checkpoint, r"of \[1, 8\] alone, and rows of 8.*dynamic axes", CheckpointError)


def test_what_cannot_be_told_is_refused(tmp_path: Path, exported: Exports) -> None:
    """DeBERTa repeats its relative positions as often as the batch of the trace had rows."""
    checkpoint = exported("deberta-v2").checkpoint
    file = foreign.torchscript(checkpoint, tmp_path / "model.onnx", free=(), size=(1, 16))
    match = r"of \[1, 16\] alone, and what its MatMul .* cannot be told.*with dynamic axes"
    refused(file, checkpoint, match, CheckpointError)


def test_axes_of_a_reshape_are_found() -> None:
    """Whatever the batch; also where the sequence is as long as a head or the hidden size."""
    h = number(32)
    assert align([B, S, h], [1, 32, 4, 8], 1, 32) == (B, S, number(4), number(8))
    assert align([B, S, h], [1, 32, 32, 1], 1, 32) == (B, S, h, number(1))
    assert align([B, number(4), S, number(8)], [4, 16, 8], 1, 16) == ((0, 4, 0, 0), S, number(8))
    assert align([(0, 4, 0, 0), S, h], [2, 4, 16, 32], 2, 16) == (B, number(4), S, h)
    assert align([B, S], [32], 2, 16) == (BS,)
    assert align([BS], [1, 1, 1, 16], 1, 16) == (B, number(1), number(1), S)
    assert align([S, B, h], [16, 8, 8], 2, 16) == (S, (0, 4, 0, 0), number(8))
    assert align([B, S, h], [8, 64], 1, 16) is None  # the sequence is cut in two
    assert align([B, None], [1, 16], 1, 16) is None
    assert align([B, S], [1, 17], 1, 16) is None
    assert spread([B, number(1), number(1), S], [1, 1, 16, 16], (1, 16)) == (
        *(number(1), number(1), S, number(1)),
    )
