"""Tensors of the weight files that no parameter of the model takes."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import torch
import transformers

from qdeploy.errors import CheckpointError
from qdeploy.exporter.tasks import TASKS
from qdeploy.names import few

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel
    from transformers.models.auto.auto_factory import _LazyAutoMapping

_SHOWN = 5  # names listed in an error text
# Buffers that count or cache and were never trained, and heads of pretraining that
# microsoft/deberta-v3-base and its like carry under names of Microsoft's own code.
_HARMLESS = re.compile(
    r"(^|\.)(position_ids|token_type_ids|inv_freq|num_batches_tracked)$"
    r"|^(lm_predictions|mask_predictions)\."
)
_PRETRAINING = (
    "MODEL_FOR_PRETRAINING_MAPPING",
    "MODEL_FOR_MASKED_LM_MAPPING",
    "MODEL_FOR_CAUSAL_LM_MAPPING",
    "MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING",
)


def check_unread(
    model: PreTrainedModel, unread: Collection[str], origin: str, *, other_heads: bool = False
) -> None:
    """Refuse tensors that nothing reads: the file holds another model than the one that runs.

    Harmless are those that the family's own loading ignores (they are not among `unread`), heads
    of its pretraining and a pooler that this head goes without, and buffers that were never
    trained.

    Args:
        model: as loaded.
        unread: names of tensors, as transformers reports them.
        origin: of the files, for the text.
        other_heads: the head comes from elsewhere (an adapter), so those of other tasks in the
            files do not count.

    Raises:
        CheckpointError: naming them.
    """
    names = sorted(name for name in unread if not _HARMLESS.search(name))
    if names:
        known = _names_of_family(model, other_heads=other_heads)
        names = [name for name in names if name not in known]
    if not names:
        return
    kind = type(model).__name__
    raise CheckpointError(
        f"{len(names)} tensors of {origin} are read by nothing in {kind}: {few(names, _SHOWN)}. "
        "The weights are of another model than config.json describes "
        f"({_described(model.config)}), so the export would not be this checkpoint. Correct "
        "config.json; if the tensors do not belong to the model, drop them: "
        f"`transformers.{kind}.from_pretrained({origin!r})"
        ".save_pretrained(...)` writes a checkpoint without them."
    )


def _described(config: PreTrainedConfig) -> str:
    layers = getattr(config, "num_hidden_layers", None)
    return f"{config.model_type}{f', {layers} layers' if layers is not None else ''}"


def _names_of_family(model: PreTrainedModel, *, other_heads: bool) -> set[str]:
    """Names that other heads of the same architecture and configuration give their tensors."""
    mappings = [transformers.MODEL_MAPPING]
    mappings += [
        getattr(transformers, name) for name in _PRETRAINING if hasattr(transformers, name)
    ]
    if other_heads:
        mappings += [getattr(transformers, task.auto_class)._model_mapping for task in TASKS]
    found: set[str] = set()
    for kind in _classes(mappings, type(model.config)):
        with torch.device("meta"):
            try:
                other = kind(copy.deepcopy(model.config))
            except Exception:  # a head that this configuration does not suit names nothing
                continue
        names = list(other.state_dict())
        if not hasattr(other, model.base_model_prefix):  # the base model itself
            names = [f"{model.base_model_prefix}.{name}" for name in names]
        found.update(names)
    return found


def _classes(
    mappings: Iterable[_LazyAutoMapping], config: type[PreTrainedConfig]
) -> set[type[PreTrainedModel]]:
    found: set[type[PreTrainedModel]] = set()
    for mapping in mappings:
        if config in mapping:
            kind = mapping[config]
            found.update(kind if isinstance(kind, tuple | list) else [kind])
    return found
