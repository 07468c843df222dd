"""`export_checkpoint`: checkpoint → model directory, whole and verified or not there at all."""

from __future__ import annotations

import shlex
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from qdeploy.errors import CheckpointError, QDeployWarning
from qdeploy.exporter.canonical import clean
from qdeploy.exporter.checkpoint import Checkpoint, find_checkpoint
from qdeploy.exporter.licences import licences_of
from qdeploy.exporter.loading import load_model
from qdeploy.exporter.options import ExportOptions
from qdeploy.exporter.quiet import quiet
from qdeploy.exporter.sentence import SentenceEncoder
from qdeploy.exporter.sentence_parts import embedding_facts, pooled
from qdeploy.exporter.settings import longest_full_row, warn_of_text_alone
from qdeploy.exporter.tasks import Task, task_of
from qdeploy.exporter.tokenizer import (
    check_types,
    check_vocabulary,
    embedding_rows,
    length_limit,
    load_tokenizer,
    model_inputs,
    pad_token_id,
    save_tokenizer,
)
from qdeploy.exporter.trace import check_runs, trace
from qdeploy.exporter.verify import Interface, verify_logits, verify_tokenizer
from qdeploy.files.artifact import read_manifest, write_graph, write_manifest
from qdeploy.files.output import check_apart, check_output
from qdeploy.files.publish import staged
from qdeploy.head import EMBEDDINGS, head_facts, unique
from qdeploy.models import embedded
from qdeploy.options import given_or
from qdeploy.schemas.manifest import ModelManifest
from qdeploy.types import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

GRAPH = "model.onnx"


def export_checkpoint(
    checkpoint: str | Path,
    model_dir: str | Path,
    asked: ExportOptions | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    **fields: Any,
) -> ModelManifest:
    """Export a checkpoint to a model directory with a verified FP32 ONNX graph.

    The graph has int64 inputs [batch, sequence], both dynamic, opset 20, and is one file, which
    every tool loads and nobody can separate from its weights; only above 1.5 GB of weights they
    stand in `model.onnx.data`, since protobuf ends at 2 GB.

    Args:
        checkpoint: Hugging Face or sentence-transformers directory, hub id, PEFT adapter directory
            (merged in FP32), or "embedded".
        model_dir: directory to write.
        asked: how the checkpoint is read; its `seed` is of the random rows of the verification.
        force: replace `model_dir` when qdeploy wrote it.
        progress: called as progress(stage, done, total).
        fields: of the options, by name.

    Returns:
        The manifest of the model directory.

    Raises:
        CheckpointError: the checkpoint cannot be exported.
        VerificationError: logits differ from torch's by more than FP32 rounding explains, or
            tokens from transformers'.
        OutputError: `model_dir` exists, overlaps the checkpoint, or cannot be written.
    """
    report = progress or (lambda stage, done, total: None)
    asked, target = given_or(ExportOptions, asked, fields), Path(model_dir)
    check_apart(target, [] if str(checkpoint) == embedded.NAME else [Path(checkpoint)])
    check_output(target, "model", force=force)
    report("find checkpoint", 0, 1)
    found, kind = _found(checkpoint, asked)
    check_apart(target, found.directories)
    report("find checkpoint", 1, 1)
    report("load weights", 0, 1)
    model = load_model(found, kind)  # first, since loading a tokenizer reads config.json too
    tokenizer = load_tokenizer(found)
    check_vocabulary(tokenizer, embedding_rows(model), found.tokenizer)
    if kind.name != EMBEDDINGS:
        _warn_of_nameless_classes(found, model)
        _warn_of_equal_classes(found, model)
    warn_of_text_alone(model.config, found.name)
    report("load weights", 1, 1)
    report("trace", 0, 1)
    inputs, longest = model_inputs(tokenizer, model), _longest(found, tokenizer, model)
    configured = getattr(model.config, "pad_token_id", None)
    padding = pad_token_id(tokenizer, embedding_rows(model), configured)
    check_types(tokenizer, inputs, getattr(model.config, "type_vocab_size", None))
    whole = model if found.parts is None else SentenceEncoder(model, found.parts).eval()
    check_runs(whole, inputs, kind.outputs, longest=longest)
    graph = clean(trace(whole, inputs, kind.outputs, longest=longest), whole)
    report("trace", 1, 1)
    interface = Interface(
        inputs=tuple(str(value.name) for value in graph.graph.inputs),
        outputs=kind.outputs,
        max_length=longest,
        pad_token_id=padding,
    )
    source = found.source()
    with staged(target, "model", force=force) as work:
        _write(work, graph, model, tokenizer)
        verification = _verified(work, whole, tokenizer, interface, asked.seed, report)
        fields = {
            "source": source,
            "task": kind.name,
            **_facts(found, model, interface),
            "licences": licences_of(found),
            "verification": verification,
            "command": _command(found, target, asked),
            "seed": asked.seed,
        }
        write_manifest(work, "model", fields)
    return read_manifest(target, "model")


def _found(checkpoint: str | Path, asked: ExportOptions) -> tuple[Checkpoint, Task]:
    """A checkpoint and its task; an embedding model has its parts, and no other checkpoint.

    Raises:
        CheckpointError: see `find_checkpoint` and `task_of`; pooling of what has it already, or of
            another task.
    """
    found = find_checkpoint(
        checkpoint, allow_pickle=asked.allow_pickle, trust_remote_code=asked.trust_remote_code
    )
    if asked.pooling is not None:
        if found.parts is not None:
            raise CheckpointError(
                f"{found.name} pools by {', '.join(found.parts.pooling)}, as its modules.json says."
                " Leave --pooling out."
            )
        if asked.task not in (None, EMBEDDINGS):
            raise CheckpointError(
                f"--pooling is of embedding models, and --task is {asked.task}. Leave one out."
            )
        found = replace(found, parts=pooled(asked.pooling))
    embeds = found.parts is not None
    kind = task_of(found.name, found.config, found.adapter_config, asked.task, embeds=embeds)
    return (found if kind.name == EMBEDDINGS else replace(found, parts=None)), kind


def _write(
    work: Path, graph: ir.Model, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> None:
    write_graph(graph, work / GRAPH)
    with quiet():
        model.config.save_pretrained(work)
    save_tokenizer(tokenizer, work)


def _verified(
    work: Path,
    model: PreTrainedModel | SentenceEncoder,
    tokenizer: PreTrainedTokenizerFast,
    interface: Interface,
    seed: int,
    report: Progress,
) -> dict[str, object]:
    """What was compared with torch and transformers, and how far it agrees, for the manifest.

    Raises:
        VerificationError: logits or tokens differ.
    """
    agreement = verify_logits(
        model,
        work / GRAPH,
        tokenizer,
        interface,
        seed=seed,
        step=lambda done, total: report("verify", done, total),
    )
    rows = verify_tokenizer(tokenizer, work / "tokenizer.json", interface.inputs)
    return {
        **agreement.as_dict(),
        "shapes": [list(shape) for shape in interface.shapes()],
        "tokenizer_rows": rows,
    }


def _facts(
    checkpoint: Checkpoint, model: PreTrainedModel, interface: Interface
) -> dict[str, object]:
    """What a model takes and gives, for the manifest."""
    if checkpoint.parts is None:
        labels, head = list(unique(_labels(model))), head_facts(model.config.to_dict())
    else:
        labels, head = [], {"embedding": embedding_facts(checkpoint.parts, _hidden_size(model))}
    return {
        "labels": labels,
        "head": head,
        "model_type": model.config.model_type,
        "hidden_size": _hidden_size(model),
        "vocabulary": embedding_rows(model),
        "max_length": interface.max_length,
        "pad_token_id": interface.pad_token_id,
        "inputs": list(interface.inputs),
        "outputs": list(interface.outputs),
    }


def _labels(model: PreTrainedModel) -> list[str]:
    """Class names by index; question answering has none, whatever its configuration says."""
    names = model.config.id2label
    return [str(names.get(index, f"LABEL_{index}")) for index in range(model.config.num_labels)]


def _hidden_size(model: PreTrainedModel) -> int:
    """As the configuration says, in whatever word; else the width of the token embeddings."""
    size = getattr(model.config, "hidden_size", None)
    return int(model.get_input_embeddings().weight.shape[1] if size is None else size)


def _longest(
    checkpoint: Checkpoint, tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel
) -> int:
    """Tokens of the longest row, with a warning where BigBird would take more in its own way."""
    limit, full = length_limit(tokenizer, model), longest_full_row(checkpoint.config)
    if full is None or full >= limit:
        return limit
    warnings.warn(
        f"{checkpoint.name} attends sparsely, and partly at random, in rows of more than {full} "
        f"tokens, which no graph repeats. The export takes rows of up to {full} tokens, where it "
        "attends to everything.",
        QDeployWarning,
        stacklevel=3,
    )
    return full


def _warn_of_nameless_classes(checkpoint: Checkpoint, model: PreTrainedModel) -> None:
    if checkpoint.adapter is not None and _labels(model)[0] == "LABEL_0":
        warnings.warn(
            f"{checkpoint.adapter} does not name its classes, so they are called "
            f"{', '.join(_labels(model))}. Put a config.json with id2label beside the adapter.",
            QDeployWarning,
            stacklevel=3,
        )


def _warn_of_equal_classes(checkpoint: Checkpoint, model: PreTrainedModel) -> None:
    names = _labels(model)
    if len(set(names)) < len(names):
        warnings.warn(
            f"{checkpoint.name} has classes of one name ({', '.join(names)}): they are called "
            f"{', '.join(unique(names))}. Set id2label in its config.json to tell them apart.",
            QDeployWarning,
            stacklevel=3,
        )


def _command(checkpoint: Checkpoint, target: Path, asked: ExportOptions) -> str:
    """The command line that does the same."""
    words = ["qdeploy", "export", checkpoint.name, str(target), "--seed", str(asked.seed)]
    words += ["--task", asked.task] if asked.task else []
    words += ["--pooling", asked.pooling] if asked.pooling else []
    words += ["--trust-remote-code"] if checkpoint.trust_remote_code else []
    words += ["--allow-pickle"] if checkpoint.weights[0].suffix == ".bin" else []
    return shlex.join(words)
