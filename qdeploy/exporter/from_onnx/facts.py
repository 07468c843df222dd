"""What config.json, tokenizer and graph say of a file's model, for its manifest."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from qdeploy.class_names import class_names
from qdeploy.errors import CheckpointError, QDeployWarning
from qdeploy.exporter.from_onnx.outputs import Output, task_by_outputs
from qdeploy.exporter.from_onnx.unfreeze import Traced
from qdeploy.exporter.sentence_parts import SentenceParts
from qdeploy.exporter.tasks import TASKS, Task, task_of
from qdeploy.head import EMBEDDINGS, SEQUENCES, TOKENS, unique
from qdeploy.position_counts import tokens_at_most

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_LONGEST = 512  # tokens, where neither config.json nor tokenizer says
_NO_LIMIT = 1 << 20  # what transformers writes into a tokenizer without a limit is larger
_SIZES = ("hidden_size", "dim", "d_model", "n_embd")


def task_of_file(
    name: str,
    config: Mapping[str, object],
    outputs: Sequence[Output],
    asked: str | None,
    parts: SentenceParts | None,
) -> Task:
    """What the head is for: as asked, by config.json, or by the outputs.

    Raises:
        CheckpointError: nothing says it.
    """
    vectors = task_by_outputs(outputs) == EMBEDDINGS
    try:
        return task_of(name, config, None, asked, embeds=parts is not None or vectors)
    except CheckpointError:
        found = task_by_outputs(outputs)
        # a base model's config.json names no head; one for logits has an output of that name
        named = any(o.name in ("logits", "start_logits") for o in outputs)
        if asked is not None or found is None or (config.get("architectures") and not named):
            raise
        return next(task for task in TASKS if task.name == found)


def labels_of(config: Mapping[str, object], task: str, classes: int, origin: str) -> list[str]:
    """Class names by index; none of embeddings, start and end of answers.

    Raises:
        CheckpointError: config.json names another number of classes than the graph has.
    """
    if task == EMBEDDINGS:
        return []
    if task not in (SEQUENCES, TOKENS):
        given = config.get("id2label")
        pairs = given.items() if isinstance(given, dict) else ()
        named = {str(key): str(name) for key, name in pairs}
        return [named.get(str(at), f"LABEL_{at}") for at in range(2)]
    names = class_names(config, classes, f"config.json of {origin}", CheckpointError)
    if not names:
        warnings.warn(
            f"config.json of {origin} names no classes, so they are called LABEL_0 and so on. "
            "Write id2label into it.",
            QDeployWarning,
            stacklevel=3,
        )
        return [f"LABEL_{at}" for at in range(classes)]
    return list(unique(names))


def longest_row(
    config: Mapping[str, object],
    tokenizer: PreTrainedTokenizerFast,
    traced: Traced | None = None,
) -> int:
    """Tokens that the model takes: by config.json, tokenizer, and the one size of the file."""
    limit = int(tokenizer.model_max_length)
    if traced is not None and traced.sequence is not None:
        limit = min(limit, traced.sequence)
    positions = tokens_at_most(config)
    if positions is None:
        return limit if limit < _NO_LIMIT else _LONGEST
    return min(positions, limit)


def hidden_size(config: Mapping[str, object], model: ir.Model) -> int:
    """Channels: by config.json, else those of the last normalization."""
    for name in _SIZES:
        size = config.get(name)
        if isinstance(size, int):
            return size
    norms = [node for node in model.graph if node.op_type == "LayerNormalization"]
    scale = norms[-1].inputs[1] if norms else None
    if scale is None or scale.const_value is None:
        raise CheckpointError("config.json does not say hidden_size. Write it there.")
    return scale.const_value.size
