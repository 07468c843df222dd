"""The tokenizer of a file of anybody, and what its config.json says of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdeploy.against.pooled import Pooled, pooled_of
from qdeploy.class_names import class_names
from qdeploy.data.tokenize import TextEncoder
from qdeploy.data.tokenizer_files import FILES, read_plain_tokenizer
from qdeploy.errors import ModelError
from qdeploy.exporter.from_onnx.outputs import ROW_VECTORS
from qdeploy.files.artifact import kind_of, read_json, read_manifest
from qdeploy.head import (
    CONFIG,
    EMBEDDINGS,
    SEQUENCES,
    SPANS,
    TOKENS,
    Head,
    head_facts,
    head_of,
    unique,
)
from qdeploy.position_counts import tokens_at_most
from qdeploy.schemas.inspection import InspectedFile
from qdeploy.schemas.manifest import EngineManifest

_ONNX = "onnx"  # folder of a hub repository that holds the graphs
_ARCHITECTURES = {
    "ForSequenceClassification": SEQUENCES,
    "ForTokenClassification": TOKENS,
    "ForQuestionAnswering": SPANS,
}
_REMEDY = "Take it anew from where it was made."


@dataclass(frozen=True)
class Home:
    """What is known of a file beside its graph.

    Attributes:
        directory: of the tokenizer.
        encoder: of it, for the inputs of the graph.
        head: what the outputs mean.
        manifest: the same as an engine's manifest says it.
        pooled: how vectors of tokens become one of a row; None where the graph does it, or has
            other answers.
    """

    directory: Path
    encoder: TextEncoder
    head: Head
    manifest: EngineManifest
    pooled: Pooled | None = None


def find_home(tokenizer: Path | None, files: Sequence[Path]) -> Path:
    """The directory of the tokenizer: the one named, one beside a file, or above its `onnx`.

    Raises:
        ModelError: none has a tokenizer.json.
    """
    places: list[Path] = []
    for file in files:
        places.append(file.parent)
        if file.absolute().parent.name == _ONNX:
            places.append(file.parent / "..")
    if tokenizer is not None:
        places = [tokenizer]
    for place in places:
        if (place / FILES[0]).is_file():
            return place
    looked = ", ".join(dict.fromkeys(map(str, places)))
    raise ModelError(
        f"No {FILES[0]} in {looked}. Name the directory that has it with --tokenizer DIR."
    )


def open_home(directory: Path, found: InspectedFile) -> Home:
    """What a tokenizer's directory says of a file.

    Args:
        found: what a look into the file said.

    Raises:
        ModelError: it has no classes of its own, or no output that answers.
    """
    kind = kind_of(directory)
    if kind in ("model", "engine"):
        manifest = read_manifest(directory, "engine" if kind == "engine" else "model")
        head = head_of(directory, manifest)
        _check_answers(head, found)
        told: Any = dict(manifest)
        return Home(directory, TextEncoder.from_directory(directory), head, told)
    pooled = pooled_of(directory, found["outputs"])
    if pooled is not None:
        found = found.copy()
        found["outputs"] = {ROW_VECTORS: "[batch,size]", **found["outputs"]}
    config = _config(directory)
    task = _task(config, found, directory)
    labels = _labels(config, task, found, directory)
    facts = head_facts(config)
    head = Head(
        task,
        unique(labels),
        problem_type=facts.get("problem_type"),
        function_to_apply=facts.get("function_to_apply"),
        activation=facts.get("activation"),
    )
    _check_answers(head, found)
    encoder = TextEncoder(
        *read_plain_tokenizer(
            directory,
            input_names=tuple(found["inputs"]),
            positions=tokens_at_most(config),
            pad_token_id=_number(config.get("pad_token_id")) or 0,
            vocabulary=found["vocabulary"],
            one_text=task == EMBEDDINGS,
        )
    )
    manifest_of_file: EngineManifest = {
        "schema": 1,
        "kind": "engine",
        "labels": labels,
        "task": task,  # type: ignore[typeddict-item]
        "max_length": encoder.max_length,
        "pad_token_id": _number(config.get("pad_token_id")) or 0,
        "inputs": list(found["inputs"]),
        "outputs": list(found["outputs"]),
        "source": {"path": str(directory), "sha256": ""},
        "head": facts,
        "target": "ort-cpu",
        "strategy": "foreign",
        "scope": "gemm",
        "opt_shape": [8, 128],
    }
    return Home(directory, encoder, head, manifest_of_file, pooled)


def last_axis(shape: str) -> int | None:
    """The last axis of a shape as a look tells it; None where it is free.

    >>> last_axis("[batch,2]"), last_axis("[batch,classes]")
    (2, None)
    """
    last = shape.strip("[]").split(",")[-1].strip()
    return int(last) if last.isdigit() else None


def _config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG
    if not path.is_file():
        return {}
    found = read_json(path, _REMEDY)
    return found if isinstance(found, dict) else {}


def _task(config: dict[str, Any], found: InspectedFile, directory: Path) -> str:
    """By the outputs; of `logits` by the name of the architecture, or by their axes."""
    outputs = found["outputs"]
    if {"start_logits", "end_logits"} <= set(outputs):
        return SPANS
    if ROW_VECTORS in outputs:
        return EMBEDDINGS
    if "logits" not in outputs:
        raise ModelError(
            f"The files give {', '.join(outputs)}, and logits, start_logits and end_logits, or "
            "sentence_embedding were expected: what others mean is not known. Export the model "
            "with its head."
        )
    names = config.get("architectures")
    for name in names if isinstance(names, list) else []:
        for ending, task in _ARCHITECTURES.items():
            if str(name).endswith(ending):
                return task
    axes = outputs["logits"].count(",") + 1
    if axes in (2, 3):
        return SEQUENCES if axes == 2 else TOKENS
    raise ModelError(
        f"What the logits mean is not known: {directory} has no {CONFIG} that names an "
        "architecture. Put it there."
    )


def _labels(config: dict[str, Any], task: str, found: InspectedFile, directory: Path) -> list[str]:
    if task in (SPANS, EMBEDDINGS):
        return []
    columns = last_axis(found["outputs"]["logits"])
    if labels := class_names(config, columns, str(directory / CONFIG), ModelError):
        return labels
    if columns is None:
        raise ModelError(
            f"How many classes the files give is not known: {directory} has no {CONFIG} with "
            "id2label. Put it there."
        )
    return [f"LABEL_{at}" for at in range(columns)]


def _check_answers(head: Head, found: InspectedFile) -> None:
    missing = [name for name in head.answers if name not in found["outputs"]]
    if missing:
        raise ModelError(
            f"The files give {', '.join(found['outputs'])}, and {', '.join(missing)} was expected "
            f"of a {head.description}. Name the directory of this model with --tokenizer."
        )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
