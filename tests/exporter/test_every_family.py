"""Every text encoder of transformers: exported at two hidden sizes, or refused with its reason."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest
import transformers
from transformers.models.auto import modeling_auto

from qdeploy.errors import CheckpointError, QDeployWarning
from qdeploy.exporter.export import export_checkpoint
from tests.exports import Exports
from tests.families import EXPORTED, REFUSED, tiny_config
from tests.tiny import FAMILIES, LABELS, tiny_checkpoint, tiny_tokenizer

# The larger size is above the exporter's own limit of folding, where layouts have differed. At the
# smaller one test_families.py has those of `FAMILIES`; the last in the list are kin of others.
KIN = (
    "xlm-roberta-xl",
    "xmod",
    "megatron-bert",
    "roberta-prelayernorm",
    "flaubert",
    "esmc",
    "llama",
)
CASES = [(family, 256) for family in EXPORTED]
CASES += [(family, 32) for family in EXPORTED if family not in (*FAMILIES, *KIN)]
# An export takes five to ten seconds: the fast tests hold the larger size of one family of a kind,
# and those whose weights are shared, turned or in convolutions.
FAST = ("bert", "albert", "albert-two-groups", "deberta-v2", "modernbert", "convbert")
MARKED = [
    pytest.param(family, hidden, marks=() if hidden == 256 and family in FAST else pytest.mark.slow)
    for family, hidden in CASES
]
TEXT_ALONE = ("layoutlm", "luke", "roc_bert")


@pytest.mark.parametrize(("family", "hidden"), MARKED)
def test_family_exports_and_reads_its_weights_directly(
    family: str, hidden: int, exported: Exports
) -> None:
    if family in TEXT_ALONE:
        with pytest.warns(QDeployWarning) as said:
            done = exported(family, hidden=hidden)
        assert [w.category for w in said].count(QDeployWarning) == 1
    else:  # where a warning is an error
        done = exported(family, hidden=hidden)
    manifest = done.manifest
    check = manifest["verification"]
    assert 0 < check["max_rel_diff"] < 1e-4
    assert manifest["inputs"][:2] == ["input_ids", "attention_mask"]
    assert manifest["labels"] == list(LABELS["sequence-classification"])
    assert manifest["max_length"] == 128
    graph = ir.load(done.model_dir / "model.onnx").graph
    assert [str(value.name) for value in graph.outputs] == ["logits"]
    for node in graph:
        if node.op_type == "MatMul":
            for value in node.inputs:
                maker = value.producer() if value is not None else None
                assert maker is None or not (
                    maker.op_type in ("Transpose", "Reshape", "Cast")
                    and maker.inputs[0] is not None
                    and maker.inputs[0].is_initializer()
                )


@pytest.mark.parametrize("family", REFUSED)
def test_family_is_refused_with_its_reason(family: str, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    config = tiny_config(family)
    auto = transformers.AutoModelForSequenceClassification
    auto.from_config(config).save_pretrained(checkpoint)
    tiny_tokenizer(family).save_pretrained(checkpoint)
    with pytest.raises(CheckpointError, match=REFUSED[family][1]) as caught:
        export_checkpoint(checkpoint, tmp_path / "model")
    assert "Fine-tune an encoder" in str(caught.value) or "Correct config.json" in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_every_name_is_one_of_transformers() -> None:
    known = modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    forms = [*EXPORTED.values(), *(form for form, _ in REFUSED.values())]
    assert {form.model_type for form in forms} <= set(known)


def test_bigbird_takes_rows_that_it_attends_to_in_full(tmp_path: Path) -> None:
    """Sparse attention begins above (5 + 2 · 1) · 8 = 56 tokens."""
    checkpoint = tiny_checkpoint(
        tmp_path / "checkpoint",
        "big_bird",
        attention_type="block_sparse",
        num_random_blocks=1,
        block_size=8,
    )
    with pytest.warns(QDeployWarning, match="rows of more than 56 tokens, which no graph repeats"):
        manifest = export_checkpoint(checkpoint, tmp_path / "model")
    assert manifest["max_length"] == 56
    saved = transformers.AutoConfig.from_pretrained(tmp_path / "model")
    assert saved.attention_type == "original_full"
