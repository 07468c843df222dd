"""Padding and unread tokens left out: every family, every kind of mask, and the same answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdeploy.calibrate.model import load_model
from qdeploy.deploy.passes.equivalence import TOLERANCE, ModelInputs, Reference, run_once, run_real
from qdeploy.deploy.passes.key_masks import mask_keys
from qdeploy.deploy.passes.leave_out import LeftOut, hard_feeds, leave_out
from qdeploy.errors import PlanError, TargetError
from qdeploy.exporter.export import export_checkpoint
from qdeploy.files.artifact import read_manifest
from qdeploy.graph.editor import GraphEditor
from qdeploy.sentence_layout import POOLING_MODES
from tests.deploy.conftest import Built, Source
from tests.exports import Exported, Exports
from tests.sentence_models import sentence_checkpoint
from tests.tiny import FAMILIES

TASKS = ("sequence-classification", "token-classification", "question-answering")
# What reads padding, whatever the mask says: convolutions over tokens, landmarks and hashes of all
# tokens, a mean over all of them.
READS_PADDING = {"deberta-v2-conv", "convbert", "nystromformer", "yoso"}
LOOKS_AT = "something in the model reads it"


def rewritten(done: Exported, *, padding: bool = True) -> tuple[ir.Model, ModelInputs, LeftOut]:
    model, _ = load_model(done.model_dir)
    inputs = ModelInputs.of(done.manifest)
    return model, inputs, leave_out(model, model, inputs, padding=padding)


# Other heads take an export of six seconds each: of most families they are among the slow tests.
CASES = [
    pytest.param(family, task, marks=[] if quick else [pytest.mark.slow])
    for family in FAMILIES
    for task in TASKS
    for quick in [task == TASKS[0] or family in ("bert", "roberta")]
]


@pytest.mark.parametrize(("family", "task"), CASES)
def test_padding_goes_wherever_nothing_reads_it(family: str, task: str, exported: Exports) -> None:
    model, inputs, found = rewritten(exported(family, task))
    assert found.padding and not found.reason
    assert bool(found.unread) == (task == "sequence-classification")
    hard = hard_feeds(model, inputs)
    assert Reference(model, *hard, real_only=True).compare(found.model).within(None)


@pytest.mark.parametrize("family", sorted(READS_PADDING))
def test_padding_stays_where_something_reads_it(family: str, exported: Exports) -> None:
    _, _, found = rewritten(exported(family))
    assert not found.padding and LOOKS_AT in found.reason


@pytest.mark.parametrize(
    ("family", "modes"),
    [
        ("bert", POOLING_MODES),
        ("roberta", POOLING_MODES),
        ("bert", ["cls"]),
        ("bert", ["lasttoken"]),
    ],
)
def test_pooling_of_every_mode_goes_without_padding(
    family: str, modes: Sequence[str], tmp_path: Path
) -> None:
    """A sum or a maximum over tokens is taken behind a mask, which packed rows do not have.

    A single mode is the graph's output itself.
    """
    pooling = {"embedding_dimension": 32, "pooling_mode": list(modes)}
    parts = () if len(modes) == 1 else ("Normalize",)
    checkpoint = sentence_checkpoint(tmp_path / "checkpoint", family, pooling=pooling, parts=parts)
    manifest = export_checkpoint(checkpoint, tmp_path / "model")
    model, inputs, found = rewritten(Exported(checkpoint, tmp_path / "model"))
    assert manifest["outputs"][0] == "sentence_embedding"
    assert found.padding and not found.reason
    hard = hard_feeds(model, inputs)
    assert Reference(model, *hard, real_only=True).compare(found.model).within(None)


def test_a_run_with_unused_columns_says_nothing(engine: Callable[..., Built]) -> None:
    """ONNX Runtime warns on every run of shapes in a graph that are not those of the run."""
    built = engine("bert", strategy="w8a8", padding="removed")
    code = """
import sys, numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
mask = np.repeat(np.arange(20)[None] < 7, 4, axis=0).astype(np.int64)
feeds = {value.name: mask for value in session.get_inputs()}
session.run(None, feeds | {"input_ids": 7 * mask})
"""
    path = str(built.directory / "model.onnx")
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def pair(exported: Exports) -> tuple[ir.Model, LeftOut]:
    model, _, found = rewritten(exported("bert"))
    return model, found


Rows = list[list[bool]]


@st.composite
def masks(draw: st.DrawFn) -> Rows:
    rows, length = draw(st.integers(1, 5)), draw(st.integers(1, 20))
    return [draw(st.lists(st.booleans(), min_size=length, max_size=length)) for _ in range(rows)]


@settings(max_examples=25, deadline=None)
@given(masks())
def test_any_mask_gives_the_same_answers(sessions: Callable[..., Any], mask: Rows) -> None:
    """Random masks: padding on either side, holes, empty rows, one row, one token."""
    kept = np.array(mask)
    ids = np.random.default_rng(0).integers(5, 140, kept.shape)
    feeds = {"input_ids": np.where(kept, ids, 0), "attention_mask": kept.astype(np.int64)}
    feeds["token_type_ids"] = np.zeros_like(ids)
    before, after = sessions(feeds)
    assert np.abs(before - after).max() <= TOLERANCE * max(1.0, np.abs(before).max())


@pytest.fixture(scope="module")
def sessions(
    pair: tuple[ir.Model, LeftOut], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    folder = tmp_path_factory.mktemp("pair")
    opened = []
    for name, model in (("before", pair[0]), ("after", pair[1].model)):
        ir.save(model, folder / f"{name}.onnx")
        opened.append(onnxruntime.InferenceSession(folder / f"{name}.onnx"))

    def run(feeds: dict[str, Any]) -> list[Any]:
        return [session.run(["logits"], feeds)[0] for session in opened]

    return run


@pytest.mark.parametrize("dtype", [np.int32, np.bool_])
def test_masks_of_other_types(
    dtype: type, pair: tuple[ir.Model, LeftOut], exported: Exports
) -> None:
    """A mask of int32 or bool: whoever made the graph may have chosen so."""
    model, inputs, _ = rewritten(exported("bert"))
    other = model.clone()
    mask = next(value for value in other.graph.inputs if value.name == "attention_mask")
    kind = ir.DataType.from_numpy(np.dtype(dtype))
    mask.type = ir.TensorType(kind)
    found = leave_out(pair[0], pair[0], inputs, padding=True)
    assert found.padding
    from qdeploy.deploy.passes.remove_padding import remove_padding

    assert remove_padding(other) == ""
    (feeds, _) = hard_feeds(model, inputs)
    typed = {**feeds, "attention_mask": feeds["attention_mask"].astype(dtype)}
    (before,), (after,) = run_once(model, feeds), run_once(other, typed)
    assert np.abs(before - after).max() <= TOLERANCE


def test_what_a_tagger_says_of_padding_is_zero(exported: Exports) -> None:
    model, inputs, found = rewritten(exported("bert", "token-classification"))
    for feeds in hard_feeds(model, inputs):
        (logits,) = run_once(found.model, feeds)
        mask = feeds["attention_mask"] != 0
        whole = ~mask[:, 0]  # rows that begin with padding are computed whole
        assert not logits[~mask & ~whole[:, None]].any()
        assert logits[mask].any() and logits.shape[:2] == mask.shape


@pytest.mark.parametrize("strategy", ["peg", "w8a8"])
@pytest.mark.parametrize("family", ["bert", "roberta", "deberta-v2", "modernbert"])
def test_int8_engines_keep_their_answers(
    family: str, strategy: str, engine: Callable[..., Built], source: Callable[[str], Source]
) -> None:
    plain, packed = (
        engine(family, strategy=strategy, padding=word) for word in ("kept", "removed")
    )
    said = read_manifest(packed.directory, "engine")["left_out"]
    assert said["padding_removed"] and said["unread_nodes"] and said["asked"] == "removed"
    kept = read_manifest(plain.directory, "engine")["left_out"]
    assert not kept["padding_removed"] and not kept["unread_nodes"]
    int8 = packed.report["int8"]
    assert int8["executed"] == int8["planned"] > 0
    exact, _ = load_model(source(family).directory)
    hard = hard_feeds(exact, source(family).inputs())
    wanted = run_real(exact, hard)
    one, other = (
        run_real(ir.load(built.directory / "model.onnx"), hard) for built in (plain, packed)
    )
    noise = max(np.abs(a - b).max() for a, b in zip(wanted, one, strict=True))
    assert max(np.abs(a - b).max() for a, b in zip(one, other, strict=True)) <= max(noise, 1e-4)


def test_an_answer_does_not_depend_on_the_rows_beside_it(engine: Callable[..., Built]) -> None:
    """Bit for bit, at one padded length."""
    session = onnxruntime.InferenceSession(
        engine(strategy="peg", padding="auto").directory / "model.onnx"
    )
    rng = np.random.default_rng(1)
    lengths = np.array([3, 19, 7, 11, 19, 1, 15])
    mask = np.arange(19) < lengths[:, None]
    ids = np.where(mask, rng.integers(5, 140, mask.shape), 0)
    feeds = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    feeds["token_type_ids"] = np.zeros_like(ids)
    (together,) = session.run(["logits"], feeds)
    for at, length in enumerate(lengths):
        beside = [at, int(np.argmax(lengths))]  # one of full length, so that no column is cut
        (two,) = session.run(["logits"], {name: array[beside] for name, array in feeds.items()})
        assert np.array_equal(two[0], together[at]), length


def test_baselines_and_other_targets_keep_padding(
    engine: Callable[..., Built], bert: Source
) -> None:
    for strategy in ("fp32", "dynamic"):
        said = read_manifest(engine(strategy=strategy, padding="auto").directory, "engine")[
            "left_out"
        ]
        assert not said["padding_removed"] and not said["unread_nodes"]
    with pytest.raises(TargetError, match="--padding removed is of ort-cpu and openvino"):
        engine(strategy="peg", target="ort-cuda", padding="removed", dry_run=True)
    with pytest.raises(PlanError, match="ranges found at run time take padding in"):
        engine(strategy="dynamic", padding="removed")


# Families whose mask is that of their keys, made by transformers' own function.
KEYS = ("bert", "roberta", "xlm-roberta", "electra", "distilbert", "mpnet", "modernbert")


@pytest.mark.parametrize("family", KEYS)
def test_masks_of_keys_are_made_of_keys(family: str, exported: Exports) -> None:
    done = exported(family)
    model, _ = load_model(done.model_dir)
    inputs = ModelInputs.of(done.manifest)
    feeds, changed = hard_feeds(model, inputs), model.clone()
    assert mask_keys(changed, feeds) == 1
    found = Reference(model, *feeds).compare(changed)
    assert found.difference == 0
    # ModernBERT's windows hide more than padding, and keep what they are computed of
    assert (len(changed.graph) < len(model.graph) - 10) == (family != "modernbert")
    assert mask_keys(changed, feeds) == 0


def test_a_mask_that_hides_one_key_more_stays(exported: Exports) -> None:
    done = exported("bert")
    model, _ = load_model(done.model_dir)
    feeds = hard_feeds(model, ModelInputs.of(done.manifest))
    editor = GraphEditor(model)
    wheres = [node for node in model.graph if node.op_type == "Where"]
    (condition,) = {node.inputs[0] for node in wheres}
    assert condition is not None and condition.shape is not None
    # the second token is hidden from everybody
    number = editor.constant("second", np.arange(feeds[0]["input_ids"].shape[1]) != 1)
    less = editor.node("And", [condition, number], "less", dtype=ir.DataType.BOOL, like=condition)
    editor.replace_uses(condition, less.outputs[0], besides={less})
    assert mask_keys(editor.finish(), feeds) == 0
