"""`export_onnx`: ONNX file → model directory, whole and verified or not there at all."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from qdeploy.exporter.from_onnx.canonical import is_fixed, plain
from qdeploy.exporter.from_onnx.convert import REMEDY, Converted, convert, seen_parts
from qdeploy.exporter.from_onnx.facts import hidden_size, labels_of, longest_row
from qdeploy.exporter.from_onnx.source import OnnxSource, find_source, without_links
from qdeploy.exporter.from_onnx.verify import (
    Batches,
    File,
    check_longest,
    compare_half,
    verify_file,
)
from qdeploy.exporter.licences import licences_of
from qdeploy.exporter.options import ExportOptions
from qdeploy.exporter.sentence_parts import embedding_facts
from qdeploy.exporter.tokenizer import (
    check_types,
    check_vocabulary,
    load_tokenizer,
    pad_token_id,
    save_tokenizer,
)
from qdeploy.exporter.verify import Interface, batches_of, verify_tokenizer
from qdeploy.files.artifact import (
    read_manifest,
    save_graph,
    write_graph,
    write_json,
    write_manifest,
)
from qdeploy.files.output import check_apart
from qdeploy.files.publish import staged
from qdeploy.files.scratch import scratch
from qdeploy.head import EMBEDDINGS, head_facts
from qdeploy.onnx_file.check import GRAPH, check_file, check_inside, load_graph
from qdeploy.schemas.manifest import ModelManifest
from qdeploy.types import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CONFIG = "config.json"


def export_onnx(
    name: str,
    file: Path,
    model_dir: Path,
    asked: ExportOptions,
    *,
    force: bool = False,
    progress: Progress,
) -> ModelManifest:
    """Export an ONNX file to a model directory with a verified canonical graph.

    Args:
        name: as the user typed it.
        file: from `qdeploy.exporter.from_onnx.source.onnx_file_of`.
        model_dir: directory to write; looked at by the caller.
        asked: how the file is read.
        force: replace `model_dir` when qdeploy wrote it.
        progress: called as progress(stage, done, total).

    Returns:
        The manifest of the model directory; `verification` is against the file.

    Raises:
        CheckpointError: the file is no encoder in float, or what belongs to it is missing.
        ModelError: it is no ONNX file, or breaks a rule of ONNX.
        VerificationError: outputs differ from the file's by more than FP32 rounding explains.
    """
    progress("find checkpoint", 0, 1)
    source = find_source(name, file, asked.tokenizer, allow_pickle=asked.allow_pickle)
    # a model directory may lie beside the file, but not around it
    check_apart(model_dir, [file, source.checkpoint.tokenizer / CONFIG])
    with without_links(source) as plainly:
        check_file(plainly.file)
        progress("find checkpoint", 1, 1)
        _export(plainly, model_dir, asked, force=force, progress=progress)
    return read_manifest(model_dir, "model")


def _export(
    source: OnnxSource, model_dir: Path, asked: ExportOptions, *, force: bool, progress: Progress
) -> None:
    progress("read graph", 0, 1)
    made = convert(source, asked)
    tokenizer = load_tokenizer(replace(source.checkpoint, parts=made.parts or source.parts))
    interface = _interface(made, tokenizer)
    progress("read graph", 1, 1)
    with staged(model_dir, "model", force=force) as work, scratch("export") as folder:
        write_graph(made.prepared.model, work / GRAPH)
        write_json(work / CONFIG, source.checkpoint.config)
        save_tokenizer(tokenizer, work)
        check_inside(work / GRAPH)
        check_longest(work / GRAPH, interface.inputs, interface.max_length, interface.pad_token_id)
        file = made.file(_in_fp32(made, folder))
        verification = _verified(work, made, file, tokenizer, interface, asked.seed, progress)
        fields = {
            "source": made.facts,
            "licences": licences_of(source.checkpoint),
            "task": made.task.name,
            **_facts(made, file, interface),
            "verification": verification,
            "command": _command(source, model_dir, asked),
            "seed": asked.seed,
        }
        write_manifest(work, "model", fields)


def _interface(made: Converted, tokenizer: PreTrainedTokenizerFast) -> Interface:
    config, rows = made.source.checkpoint.config, made.prepared.vocabulary
    inputs = tuple(str(value.name) for value in made.prepared.model.graph.inputs)
    check_vocabulary(tokenizer, rows, made.source.checkpoint.tokenizer)
    check_types(tokenizer, inputs, config.get("type_vocab_size"))
    return Interface(
        inputs=inputs,
        outputs=made.names,
        max_length=longest_row(config, tokenizer, made.prepared.traced),
        pad_token_id=pad_token_id(tokenizer, rows, config.get("pad_token_id")),
    )


def _verified(
    work: Path,
    made: Converted,
    file: File,
    tokenizer: PreTrainedTokenizerFast,
    interface: Interface,
    seed: int,
    report: Progress,
) -> dict[str, object]:
    """What was compared with the file and with transformers' tokenizer, for the manifest.

    Args:
        file: what the graph is compared with, see `_in_fp32`.

    Raises:
        VerificationError: outputs or tokens differ.
    """
    rng = np.random.default_rng(seed)
    rows = made.prepared.vocabulary
    batches: Batches = list(batches_of(tokenizer, interface, rows, rng))
    more = dict[str, object]()
    if made.prepared.halved:
        halved = made.file(made.source.file)
        more["max_rel_diff_fp16"] = compare_half(work / GRAPH, halved, made.names, batches)
    agreement = verify_file(
        work / GRAPH,
        file,
        made.names,
        batches,
        step=lambda done, total: report("verify", done, total),
    )
    tokens = verify_tokenizer(tokenizer, work / "tokenizer.json", interface.inputs)
    return {
        **agreement.as_dict(),
        **more,
        "shapes": [list(shape) for shape in interface.shapes()],
        "tokenizer_rows": tokens,
    }


def _in_fp32(made: Converted, folder: Path) -> Path:
    """The file, or its copy in `folder` in FP32, without declared sizes that its nodes do not need.

    Raises:
        ModelError: it cannot be read.
    """
    given = load_graph(made.source.file, REMEDY)
    if not made.prepared.halved and (made.prepared.traced is not None or not is_fixed(given)):
        return made.source.file
    ir.external_data.load_to_model(given)
    save_graph(plain(given), folder / GRAPH, f"{GRAPH}.data")
    return folder / GRAPH


def _facts(made: Converted, file: File, interface: Interface) -> dict[str, object]:
    """What the model takes and gives, for the manifest."""
    config = made.source.checkpoint.config
    size = hidden_size(config, made.prepared.model)
    if made.task.name == EMBEDDINGS:
        parts = made.parts or seen_parts(made, file)
        head: dict[str, object] = {"embedding": embedding_facts(parts, size)}
    else:
        head = dict(head_facts(config))
    return {
        "labels": labels_of(config, made.task.name, made.classes, str(made.source.file)),
        "head": head,
        "model_type": config.get("model_type"),
        "hidden_size": size,
        "vocabulary": made.prepared.vocabulary,
        "max_length": interface.max_length,
        "pad_token_id": interface.pad_token_id,
        "inputs": list(interface.inputs),
        "outputs": list(interface.outputs),
    }


def _command(source: OnnxSource, target: Path, asked: ExportOptions) -> str:
    """The command line that does the same."""
    words = ["qdeploy", "export", source.checkpoint.name, str(target), "--seed", str(asked.seed)]
    words += ["--tokenizer", str(asked.tokenizer)] if asked.tokenizer is not None else []
    words += ["--task", asked.task] if asked.task else []
    words += ["--pooling", asked.pooling] if asked.pooling else []
    words += ["--allow-pickle"] if asked.allow_pickle else []
    return shlex.join(words)
