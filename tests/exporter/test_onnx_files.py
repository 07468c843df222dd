"""ONNX files of every maker: exported, verified, and the same places to quantize as a checkpoint's.

A tiny checkpoint goes through its maker's tool and through `qdeploy.export`; the graph that comes
out is held against the checkpoint's own export.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import onnx_ir as ir
import pytest

import qdeploy
from qdeploy.errors import QDeployWarning
from qdeploy.exporter.from_onnx.source import onnx_file_of
from qdeploy.files.artifact import sha256_file
from qdeploy.graph.sites import find_structure
from tests import foreign_files as foreign
from tests.exports import Exports
from tests.tiny import LABELS, tiny_checkpoint

SLOW = pytest.mark.slow
FAMILIES = (
    *("bert", "distilbert", "roberta", "electra", "mpnet", "albert", "deberta-v2", "modernbert"),
)
OWN_ATTENTION = ("deberta-v2", "mpnet")  # which torch's does not compute
# An ALBERT's own export leaves its Gelu written out, and DeBERTa's normalizes a constant.
FOLDED = ("albert", "deberta-v2")
FAST = {("bert", 11, 32), ("bert", 14, 32), ("bert", 17, 256)}
CASES = [
    pytest.param(family, opset, hidden, marks=() if (family, opset, hidden) in FAST else SLOW)
    for family in FAMILIES
    for opset in (11, 12, 14, 17, 18)
    for hidden in (32, 256)
    # torch writes Min and Clip of int64, or no attention at all, which opset 11 does not have
    if opset > 11 or family not in ("deberta-v2", "modernbert", "mpnet")
]


def structure(directory: Path) -> tuple[list[str], Counter[str], int]:
    """Names of GEMMs, numbers of operators that passes know, and feed-forward blocks."""
    model = ir.load(directory / "model.onnx")
    found = find_structure(model)
    kinds = Counter(node.op_type for node in model.graph)
    known = Counter({k: kinds[k] for k in ("LayerNormalization", "Gelu", "Softmax")})
    return sorted(gemm.name for gemm in found.gemms), known, len(found.feed_forwards)


@pytest.mark.parametrize(("family", "opset", "hidden"), CASES)
def test_torchscript_has_the_structure_of_the_checkpoint(
    family: str, opset: int, hidden: int, tmp_path: Path, exported: Exports
) -> None:
    done = exported(family, hidden=hidden)
    file = foreign.torchscript(done.checkpoint, tmp_path / "model.onnx", opset=opset)
    manifest = qdeploy.export(file, tmp_path / "out", tokenizer=done.checkpoint)

    assert manifest["verification"]["max_rel_diff"] < 1e-5
    assert manifest["source"]["sha256"] == sha256_file(file)
    assert manifest["source"]["onnx"]["opset"] == opset
    for name in ("labels", "max_length", "pad_token_id", "inputs", "outputs", "vocabulary"):
        assert manifest[name] == done.manifest[name], name
    names, kinds, blocks = structure(tmp_path / "out")
    wanted, wanted_kinds, wanted_blocks = structure(done.model_dir)
    assert names == wanted
    assert blocks == wanted_blocks
    if family not in FOLDED:
        assert kinds == wanted_kinds
    graph = ir.load(tmp_path / "out" / "model.onnx").graph
    assert graph.opset_imports == {"": 20}
    for value in (*graph.inputs, *(v for node in graph for v in node.outputs)):
        assert value.shape is not None, value.name


@pytest.mark.parametrize(
    ("task", "hidden"),
    [
        ("token-classification", 32),
        pytest.param("token-classification", 256, marks=SLOW),
        ("question-answering", 32),
        pytest.param("question-answering", 256, marks=SLOW),
    ],
)
def test_heads(task: str, hidden: int, tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path / "bert", "bert", task, hidden=hidden)
    file = foreign.torchscript(checkpoint, tmp_path / "model.onnx", task)
    manifest = qdeploy.export(file, tmp_path / "out", tokenizer=checkpoint)
    assert manifest["task"] == task
    assert manifest["labels"] == list(LABELS[task])
    assert manifest["outputs"] == foreign.OUTPUTS[task]


@pytest.mark.parametrize(
    ("family", "opset", "hidden"),
    [
        pytest.param(family, opset, hidden, marks=SLOW)
        for family in FAMILIES
        for opset in (18, 23)
        for hidden in (32, 256)
        if (family, opset) != ("modernbert", 23)  # ONNX Runtime 1.31 does not run what torch writes
    ],
)
def test_dynamo(family: str, opset: int, hidden: int, tmp_path: Path, exported: Exports) -> None:
    done = exported(family, hidden=hidden)
    attention = "eager" if family in OWN_ATTENTION else "sdpa"
    file = foreign.dynamo(
        done.checkpoint, tmp_path / "model.onnx", opset=opset, attention=attention
    )
    manifest = qdeploy.export(file, tmp_path / "out", tokenizer=done.checkpoint)
    assert manifest["verification"]["max_rel_diff"] < 1e-5
    assert structure(tmp_path / "out")[0] == structure(done.model_dir)[0]


FUSED = {
    "bert": {"EmbedLayerNormalization", "Attention", "SkipLayerNormalization", "BiasGelu"},
    "distilbert": {"EmbedLayerNormalization", "Attention", "SkipLayerNormalization", "BiasGelu"},
    "roberta": {"Attention", "SkipLayerNormalization", "BiasGelu"},
}


@pytest.mark.parametrize(
    ("family", "opset", "level"),
    [
        ("bert", 14, 0),
        *(
            pytest.param(family, opset, level, marks=SLOW)
            for family in FUSED
            for opset in (11, 14, 17)
            for level in (0, 1, 2)
            if (family, opset, level) != ("bert", 14, 0)
        ),
    ],
)
def test_fusions_of_the_optimizer_are_undone(
    family: str, opset: int, level: int, tmp_path: Path, exported: Exports
) -> None:
    done = exported(family)
    source = foreign.torchscript(done.checkpoint, tmp_path / "source.onnx", opset=opset)
    file = foreign.optimized(source, tmp_path / "model.onnx", level=level)
    manifest = qdeploy.export(file, tmp_path / "out", tokenizer=done.checkpoint)
    assert set(manifest["source"]["onnx"]["unfused"]) == FUSED[family]
    assert manifest["verification"]["max_rel_diff"] < 1e-5
    names, kinds, blocks = structure(tmp_path / "out")
    wanted, wanted_kinds, wanted_blocks = structure(done.model_dir)
    assert (kinds, blocks) == (wanted_kinds, wanted_blocks)
    assert len(names) == len(wanted)
    if family != "distilbert":  # nothing in its file says what attention belongs to
        assert names == wanted
    domains = {node.domain for node in ir.load(tmp_path / "out" / "model.onnx").graph}
    assert domains == {""}


@pytest.mark.parametrize("family", ["bert", pytest.param("roberta", marks=SLOW)])
def test_attention_without_its_products(family: str, tmp_path: Path, exported: Exports) -> None:
    done = exported(family)
    source = foreign.torchscript(done.checkpoint, tmp_path / "source.onnx")
    file = foreign.optimized(source, tmp_path / "model.onnx", separate=True)
    manifest = qdeploy.export(file, tmp_path / "out", tokenizer=done.checkpoint)
    assert "MultiHeadAttention" in manifest["source"]["onnx"]["unfused"]
    assert structure(tmp_path / "out") == structure(done.model_dir)


@pytest.mark.parametrize(
    "family", ["bert", *(pytest.param(f, marks=SLOW) for f in FAMILIES if f != "bert")]
)
def test_a_session_that_saved_its_graph(family: str, tmp_path: Path, exported: Exports) -> None:
    done = exported(family)
    source = foreign.torchscript(done.checkpoint, tmp_path / "source.onnx")
    file = foreign.extended(source, tmp_path / "model.onnx")
    qdeploy.export(file, tmp_path / "out", tokenizer=done.checkpoint)
    names, kinds, _ = structure(tmp_path / "out")
    wanted, wanted_kinds, _ = structure(done.model_dir)
    assert names == wanted
    if family not in FOLDED:
        assert kinds == wanted_kinds


@pytest.mark.parametrize(
    "family",
    [
        "bert",
        *(pytest.param(f, marks=SLOW) for f in FAMILIES if f not in ("bert", *OWN_ATTENTION)),
    ],
)
def test_torchs_attention_loses_its_guards(family: str, tmp_path: Path, exported: Exports) -> None:
    done = exported(family)
    file = foreign.torchscript(done.checkpoint, tmp_path / "model.onnx", attention="sdpa")
    qdeploy.export(file, tmp_path / "out", tokenizer=done.checkpoint)
    graph = ir.load(tmp_path / "out" / "model.onnx").graph
    assert not any(node.op_type == "IsNaN" for node in graph)
    assert structure(tmp_path / "out")[0] == structure(done.model_dir)[0]


@pytest.mark.parametrize("by", ["optimizer", "types kept", "types changed"])
def test_half_precision_is_said_and_held_against_the_file(
    by: str, tmp_path: Path, exported: Exports
) -> None:
    done = exported()
    source, file = foreign.torchscript(done.checkpoint, tmp_path / "s.onnx"), tmp_path / "m.onnx"
    if by == "optimizer":
        foreign.optimized(source, file, half=True)
    else:
        foreign.half(source, file, keeps_types=by == "types kept")
    with pytest.warns(QDeployWarning, match="is in half precision"):
        manifest = qdeploy.export(file, tmp_path / "out", tokenizer=done.checkpoint)
    check = manifest["verification"]
    assert manifest["source"]["onnx"]["precision"] == "fp16"
    # in FP32 it is the same graph; FP16's own rounding stands beside it
    assert check["max_rel_diff"] < 1e-5 < check["max_rel_diff_fp16"] < 0.02
    types = {v.dtype for v in ir.load(tmp_path / "out" / "model.onnx").graph.initializers.values()}
    assert ir.DataType.FLOAT16 not in types


def test_layout_of_the_hub(tmp_path: Path, exported: Exports) -> None:
    """config.json and tokenizer above onnx/, with files of other precisions beside model.onnx."""
    done, home = exported(), tmp_path / "repo"
    (home / "onnx").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(done.checkpoint / name, home)
    file = foreign.torchscript(done.checkpoint, home / "onnx" / "model.onnx")
    (home / "onnx" / "model_quantized.onnx").write_bytes(b"another file")
    manifest = qdeploy.export(home, tmp_path / "out")
    assert manifest["source"]["onnx"]["file"] == "model.onnx"
    assert manifest["source"]["path"] == str(home)
    assert manifest["labels"] == list(LABELS["sequence-classification"])
    # weights beside it: the directory is a checkpoint, the file is not unless it is named
    shutil.copy(done.checkpoint / "model.safetensors", home)
    assert onnx_file_of(home) is None
    assert onnx_file_of(file) == file


def test_a_file_that_says_one_size_takes_any(tmp_path: Path, exported: Exports) -> None:
    """As ONNX Runtime's `make_dynamic_shape_fixed` leaves it: the nodes take other sizes still."""
    done = exported()
    file = foreign.torchscript(done.checkpoint, tmp_path / "model.onnx")
    model = ir.load(file)
    for value in model.graph.inputs:
        value.shape = ir.Shape([1, 64])
    model.graph.outputs[0].shape = ir.Shape([1, 2])
    ir.save(model, file)
    manifest = qdeploy.export(file, tmp_path / "out", tokenizer=done.checkpoint)
    assert manifest["verification"]["shapes"] == [[1, 8], [2, 37], [8, 128]]
    assert structure(tmp_path / "out") == structure(done.model_dir)


def test_vectors_of_a_file_that_says_one_size(tmp_path: Path, exported: Exports) -> None:
    source = exported().checkpoint
    file = foreign.torchscript(source, tmp_path / "model.onnx", "pooled-embedding")
    model = ir.load(file)
    for value in model.graph.inputs:
        value.shape = ir.Shape([1, 64])
    for value in model.graph.outputs:
        value.shape = None
    ir.save(model, file)
    head = qdeploy.export(file, tmp_path / "out", tokenizer=source)["head"]["embedding"]
    assert head is not None and head["pooling"] == ["mean"]


@pytest.mark.parametrize("family", ["bert", pytest.param("roberta", marks=SLOW)])
def test_positions_are_computed(family: str, tmp_path: Path, exported: Exports) -> None:
    """From 0 on, or behind the padding token as RoBERTa counts them."""
    done = exported(family)
    file = foreign.torchscript(done.checkpoint, tmp_path / "model.onnx", opset=12, positions=True)
    manifest = qdeploy.export(file, tmp_path / "out", tokenizer=done.checkpoint)
    assert "position_ids" not in manifest["inputs"]
    assert manifest["verification"]["max_rel_diff"] < 1e-5


def test_torch_is_not_needed(tmp_path: Path, exported: Exports) -> None:
    done = exported()
    file = foreign.torchscript(done.checkpoint, tmp_path / "model.onnx")
    words = (str(file), str(tmp_path / "out"), str(done.checkpoint))
    code = (
        "import sys; sys.modules['torch'] = None; import qdeploy; "
        "qdeploy.export(sys.argv[1], sys.argv[2], tokenizer=sys.argv[3])"
    )
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)
    assert (tmp_path / "out" / "qdeploy.json").is_file()


def test_names_and_types_of_other_exporters(tmp_path: Path, exported: Exports) -> None:
    done = exported()
    names = {"attention_mask": "input_mask", "token_type_ids": "segment_ids", "logits": "output_0"}
    file = foreign.torchscript(done.checkpoint, tmp_path / "model.onnx", names=names)
    model = ir.load(file)
    for value in model.graph.inputs:  # as TensorFlow's exports have them
        value.dtype = ir.DataType.INT32
    ir.save(model, file)
    manifest = qdeploy.export(file, tmp_path / "out", tokenizer=done.checkpoint)
    assert manifest["inputs"] == ["input_ids", "attention_mask", "token_type_ids"]
    assert manifest["outputs"] == ["logits"]
    inputs = ir.load(tmp_path / "out" / "model.onnx").graph.inputs
    assert {value.dtype for value in inputs} == {ir.DataType.INT64}
