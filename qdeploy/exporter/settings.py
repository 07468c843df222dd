"""What a configuration may say: refused before any weight is read, or set to what a graph needs."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import transformers

from qdeploy.errors import CheckpointError, QDeployWarning
from qdeploy.exporter.tasks import Task
from qdeploy.types import Json

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# Settings that earlier releases of transformers obeyed, and the values that mean "nothing special".
# Release 5 took relative positions (Shaw et al. 2018) and head pruning out of most families.
_ONCE_READ: dict[str, tuple[Json, ...]] = {
    "position_embedding_type": (None, "absolute"),
    "pruned_heads": (None, {}, []),
}
# Families that transformers classifies texts with and no graph of fixed form computes.
_REFUSED = {
    "canine": "it hashes characters and has no vocabulary, so there is no tokenizer.json for it",
    "fnet": "it takes no attention_mask, so that the logits of a row depend on its padding",
    "funnel": "it pools tokens to shorter rows between its blocks, which torch cannot trace with a "
    "dynamic length",
    "longformer": "it pads a row to its attention windows inside the model, which torch cannot "
    "trace with a dynamic length",
    "mra": "on a CPU transformers gives zeros in place of its attention (the kernel needs CUDA), "
    "so that there is nothing to compare a graph with",
    "perceiver": "it reads bytes and has no vocabulary, so there is no tokenizer.json for it",
    "reformer": "it hashes tokens into random buckets, and its chunks fix the length of a row",
    "xlnet": "torch has no ONNX form for an operation of it",
    "tapas": "it reads seven token types of a table, which no tokenizer.json gives",
}
# Families that read more than text, and what of it a graph of text alone takes as nothing.
_MORE_THAN_TEXT = {
    "layoutlm": "bounding boxes",
    "layoutlmv3": "bounding boxes and pictures",
    "lilt": "bounding boxes",
    "luke": "entities",
    "markuplm": "paths in a page",
    "modernvbert": "pictures",
    "roc_bert": "shapes and sounds of characters",
}
# No encoder has more; a million layers would be built one by one before any weight is compared.
_MOST_LAYERS = 1000
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
)
_ROUNDING_TERMS = ("layer_norm_eps", "rms_norm_eps", "norm_eps")
# What a run returns beside the logits, or how; a graph has the outputs of its manifest alone.
_RUN = {
    "return_dict": True,
    "output_attentions": False,
    "output_hidden_states": False,
    "use_cache": False,
    "chunk_size_feed_forward": 0,
}
_OBSOLETE = ("torchscript", "output_past", "output_past_key_values")


def check_settings(
    config: PreTrainedConfig, given: Mapping[str, object], path: Path, task: Task
) -> None:
    """Refuse a configuration that names another model than transformers would build of it.

    Args:
        config: transformers' configuration.
        given: the content of the file.
        path: the file, for the text.
        task: the head that is asked for.

    Raises:
        CheckpointError: a family that cannot be exported, a setting that this release of
            transformers no longer obeys, a size out of bounds, or classes that are not counted
            from 0.
    """
    _check_family(config, path)
    _check_sizes(config, path)
    _check_rounding_terms(config, path)
    _check_once_read(config, given, path, task)
    if task.name != "question-answering":
        _check_classes(config, path)


def normalise(config: PreTrainedConfig) -> None:
    """Let a model return the outputs of its task alone, whatever `config.json` says, in place.

    BigBird's sparse attention becomes the full one, which it is itself for every row that
    `longest_full_row` allows.
    """
    for name, value in _RUN.items():
        if hasattr(config, name):
            setattr(config, name, value)
    for name in _OBSOLETE:
        if name in vars(config):
            delattr(config, name)
    if config.model_type == "big_bird":
        config.attention_type = "original_full"


def warn_of_text_alone(config: PreTrainedConfig, name: str) -> None:
    """Say that a family reads more than its graph will: transformers takes defaults for the rest.

    Args:
        config: of the model.
        name: of the checkpoint.
    """
    more = _MORE_THAN_TEXT.get(str(config.model_type))
    if more is not None:
        warnings.warn(
            f"{name} is a {config.model_type}, which also reads {more}; the export takes text "
            "alone, and computes what transformers computes without them.",
            QDeployWarning,
            stacklevel=3,
        )


def longest_full_row(given: Mapping[str, object]) -> int | None:
    """Tokens up to which a BigBird attends to everything; None where nothing limits it.

    Above (5 + 2 · random blocks) · block size its attention is sparse and partly random
    (Zaheer et al. 2020, arXiv 2007.14062), which no graph repeats.

    Args:
        given: the content of `config.json`.
    """
    if given.get("model_type") != "big_bird" or given.get("attention_type") == "original_full":
        return None
    blocks, size = given.get("num_random_blocks", 3), given.get("block_size", 64)
    # transformers has made a model of them
    assert isinstance(blocks, int | float | str) and isinstance(size, int | float | str)
    return (5 + 2 * int(blocks)) * int(size)


def _check_family(config: PreTrainedConfig, path: Path) -> None:
    family = str(config.model_type)
    if family in _REFUSED:
        raise CheckpointError(
            f"{path} names the architecture '{family}', which cannot be exported: "
            f"{_REFUSED[family]}. Fine-tune an encoder such as BERT, RoBERTa, DeBERTa or "
            "ModernBERT."
        )
    if getattr(config, "is_encoder_decoder", False):
        raise CheckpointError(
            f"{path} names the architecture '{family}', an encoder with a decoder behind it, and "
            "qdeploy exports encoders. Fine-tune an encoder such as BERT, RoBERTa, DeBERTa or "
            "ModernBERT."
        )
    if getattr(config, "quant_mode", False):
        raise CheckpointError(
            f"{path} sets quant_mode: this model computes in integers already, and qdeploy starts "
            "from float weights. Pass the checkpoint before quantization, or set quant_mode to "
            "false if its weights are float."
        )


def _check_sizes(config: PreTrainedConfig, path: Path) -> None:
    for name in _SIZES:
        try:
            value = getattr(config, name, None)
        except Exception:  # a property of the family that says: there is none
            continue
        if value is None or (name == "max_position_embeddings" and value == -1):
            continue
        least = 0 if name == "max_position_embeddings" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise CheckpointError(
                f"{path} sets {name} to {value!r}, and a whole number of at least {least} is "
                "needed. Correct it, or save the model again with `model.save_pretrained(...)`."
            )
        if name == "num_hidden_layers" and value > _MOST_LAYERS:
            raise CheckpointError(
                f"{path} sets num_hidden_layers to {value}, and no encoder has more than "
                f"{_MOST_LAYERS}. Correct it."
            )


def _check_rounding_terms(config: PreTrainedConfig, path: Path) -> None:
    for name in _ROUNDING_TERMS:
        value = getattr(config, name, None)
        if isinstance(value, int | float) and not 0 <= value < 1:  # False for NaN too
            raise CheckpointError(
                f"{path} sets {name} to {value!r}, which is added to a variance: a small number "
                "from 0 on is needed, such as 1e-12. Correct it."
            )


def _check_once_read(
    config: PreTrainedConfig, given: Mapping[str, object], path: Path, task: Task
) -> None:
    source = _source(config, task)
    for name, plain in _ONCE_READ.items():
        value = given.get(name)
        if value in plain or f'"{value}"' in source:  # as in `== "rotary"`
            continue
        raise CheckpointError(
            f"{path} sets {name} to {value!r}, which the '{config.model_type}' of transformers "
            f"{transformers.__version__} does not compute: the export would be another model "
            "than the one that was trained. Pass a checkpoint that was trained without it; "
            "if this one was, remove the line from the file."
        )


def _source(config: PreTrainedConfig, task: Task) -> str:
    """Text of the module that defines the model; "" where it cannot be known."""
    mapping = getattr(transformers, task.auto_class)._model_mapping
    if type(config) not in mapping:
        return ""
    module = sys.modules[mapping[type(config)].__module__]
    try:
        return inspect.getsource(module)
    except OSError:  # no source is installed
        return ""


def _check_classes(config: PreTrainedConfig, path: Path) -> None:
    found = list(getattr(config, "id2label", None) or {})
    if not found:
        raise CheckpointError(
            f"{path} names no class: its id2label is empty. Write one name for each row of the "
            'head, as in "id2label": {"0": "no", "1": "yes"}.'
        )
    if sorted(found) != list(range(len(found))):
        listed = ", ".join(str(key) for key in sorted(found)[:5])
        raise CheckpointError(
            f"{path} counts its classes as {listed}{', ...' if len(found) > 5 else ''} in "
            f"id2label, and the head gives logits 0 to {len(found) - 1}: which name belongs to "
            "which is not known. Count id2label from 0 without gaps (and label2id with it)."
        )
