"""A file's graph in canonical form with its head: what `export` writes and verifies."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from qdeploy.errors import CheckpointError, QDeployWarning
from qdeploy.exporter.from_onnx.canonical import Prepared, finish, prepare
from qdeploy.exporter.from_onnx.facts import task_of_file
from qdeploy.exporter.from_onnx.observe import POINTS
from qdeploy.exporter.from_onnx.outputs import (
    ROW_VECTORS,
    TOKEN_VECTORS,
    chosen,
    outputs_of,
    set_outputs,
)
from qdeploy.exporter.from_onnx.pooling import add_parts, pooling_of
from qdeploy.exporter.from_onnx.source import OnnxSource
from qdeploy.exporter.from_onnx.verify import File
from qdeploy.exporter.options import ExportOptions
from qdeploy.exporter.sentence_parts import Normalize, Pooling, SentenceParts, pooled
from qdeploy.exporter.tasks import Task
from qdeploy.head import EMBEDDINGS
from qdeploy.onnx_file.check import load_graph
from qdeploy.position_counts import counted_from

REMEDY = "Export the checkpoint again, or pass the checkpoint itself."


@dataclass(frozen=True)
class Converted:
    """A file on its way: where it is from, its graph in canonical form, and its head."""

    source: OnnxSource
    prepared: Prepared
    task: Task
    outputs: dict[str, str]  # of the file, by canonical name
    parts: SentenceParts | None
    classes: int
    facts: dict[str, Any]  # of the file itself
    per_token: frozenset[str] = frozenset()  # canonical outputs of the file with an axis of tokens

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical outputs, in order."""
        return self.task.outputs

    def file(self, path: Path) -> File:
        """The file, or another copy of its graph, as it runs."""
        padding = counted_from(self.source.checkpoint.config)
        return File(
            path,
            self.prepared.inputs,
            self.outputs,
            self.parts,
            padding,
            self.prepared.traced,
            self.per_token,
        )


def convert(source: OnnxSource, asked: ExportOptions) -> Converted:
    """The graph in canonical form, with its task's outputs."""
    file, config, origin = source.file, source.checkpoint.config, str(source.file)
    model = load_graph(file, REMEDY)
    source = _with_data(source, model)
    ir.external_data.load_to_model(model)  # what is written names no file of another
    opset = int(model.opset_imports.get("", 0))
    producer = f"{model.producer_name or 'unknown'} {model.producer_version or ''}".strip()
    prepared = prepare(model, origin, config)
    outputs = outputs_of(model, prepared.observed)
    parts = _parts(source, asked)
    task = task_of_file(origin, config, outputs, asked.task, parts)
    parts = parts if task.name == EMBEDDINGS else None
    names = chosen(outputs, task.name, origin, pools=parts is not None)
    classes = next((o.size for o in outputs if o.name == names.get("logits")), 0)
    set_outputs(model, {name: names[name] for name in task.outputs if name in names})
    if parts is not None:
        add_parts(model, parts)
    finish(prepared, origin)
    traced = prepared.traced
    if traced is not None:
        warnings.warn(
            f"{origin} was exported for batches of {traced} alone. It was freed from that size, "
            f"and takes rows of up to {traced.sequence or 'any number of'} tokens. For longer ones "
            "export the checkpoint again with dynamic axes.",
            QDeployWarning,
            stacklevel=4,
        )
    if prepared.halved:
        warnings.warn(
            f"{origin} is in half precision: its weights were rounded to FP16, and are computed "
            "with in FP32 from here on. If there is an FP32 file, take that.",
            QDeployWarning,
            stacklevel=4,
        )
    facts = {
        **source.origin(),
        "onnx": {
            "file": file.name,
            "opset": opset,
            "producer": producer,
            "precision": "fp16" if prepared.halved else "fp32",
            "unfused": list(prepared.fused),
            **({"traced": str(traced)} if traced is not None else {}),
        },
    }
    axes = {o.name: o.axes for o in outputs}
    per_token = frozenset(canonical for canonical, name in names.items() if "S" in axes[name])
    return Converted(source, prepared, task, names, parts, classes, facts, per_token)


def _with_data(source: OnnxSource, model: ir.Model) -> OnnxSource:
    """The same, with the files of weights that a graph names beside its own: all have a digest."""
    tensors = [value.const_value for value in model.graph.initializers.values()]
    data = {Path(t.path) for t in tensors if isinstance(t, ir.ExternalTensor)}
    checkpoint = replace(source.checkpoint, weights=(source.file, *sorted(data)))
    return replace(source, checkpoint=checkpoint)


def _parts(source: OnnxSource, asked: ExportOptions) -> SentenceParts | None:
    if asked.pooling is None:
        return source.parts
    if source.parts is not None:
        raise CheckpointError(
            f"{source.checkpoint.name} pools by {', '.join(source.parts.pooling)}, as its "
            "modules.json says. Leave --pooling out."
        )
    if asked.task not in (None, EMBEDDINGS):
        raise CheckpointError(
            f"--pooling is of embedding models, and --task is {asked.task}. Leave one out."
        )
    return pooled(asked.pooling)


def seen_parts(made: Converted, file: File) -> SentenceParts:
    """The pooling that a file computes itself, by what it gives.

    Args:
        file: as it runs at any size.

    Raises:
        CheckpointError: it is none that is known.
    """
    batch, length = POINTS[2]
    rng = np.random.default_rng(0)
    mask = np.ones((batch, length), np.int64)
    mask[-1, length // 2 :] = 0
    feeds = {
        "input_ids": rng.integers(5, made.prepared.vocabulary, (batch, length)),
        "attention_mask": mask,
        "token_type_ids": np.zeros((batch, length), np.int64),
    }
    found = file.runner()(feeds)
    seen = pooling_of(found[TOKEN_VECTORS], found[ROW_VECTORS], mask)
    if seen is None:
        raise CheckpointError(
            f"{made.source.file} pools in a way that is not known. Pass the checkpoint itself, "
            "whose modules.json says how."
        )
    modes, normalized = seen
    parts = (Pooling(modes), Normalize()) if normalized else (Pooling(modes),)
    given = made.source.parts
    return SentenceParts(parts) if given is None else replace(given, parts=parts)
