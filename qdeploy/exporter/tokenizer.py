"""The checkpoint's tokenizer as one `tokenizer.json`, and the tokens that the model takes."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from qdeploy.errors import CheckpointError
from qdeploy.exporter.checkpoint import Checkpoint
from qdeploy.exporter.quiet import quiet

# Order of the graph's inputs.
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """Load the tokenizer through transformers, in its fast form.

    Vocabulary files without a `tokenizer.json` (vocab.txt, SentencePiece models) are converted by
    transformers; what it cannot convert is refused, since after export only `tokenizers` reads it.

    Raises:
        CheckpointError: it cannot be loaded or converted.
    """
    from transformers import AutoTokenizer

    directory = checkpoint.tokenizer
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                directory, trust_remote_code=checkpoint.trust_remote_code, local_files_only=True
            )
    except Exception as error:  # json, tokenizers and missing packages each raise their own
        raise CheckpointError(
            f"The tokenizer of {directory} cannot be loaded: {' '.join(str(error).split())[:300]} "
            "Save it with a fast tokenizer (tokenizer.json) into that directory; SentencePiece "
            "models also need `pip install sentencepiece protobuf`."
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise CheckpointError(
            f"The tokenizer of {directory} ({type(tokenizer).__name__}) has no fast form, so no "
            "tokenizer.json can be written. Save a fast one into that directory with "
            "`tokenizer.save_pretrained(...)`."
        )
    return tokenizer


def save_tokenizer(tokenizer: Any, directory: Path) -> None:
    """Write `tokenizer.json` and its companions, with no padding or truncation baked in."""
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    with quiet():
        tokenizer.save_pretrained(directory)


def check_vocabulary(tokenizer: Any, model: Any, checkpoint: Checkpoint) -> None:
    """Refuse a tokenizer whose regular tokens have no row in the embedding table.

    Raises:
        CheckpointError: the tokenizer is of another model.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer.vocab_size > rows:
        raise CheckpointError(
            f"The tokenizer of {checkpoint.tokenizer} has {tokenizer.vocab_size} tokens, and the "
            f"model embeds {rows}: it is the tokenizer of another model. Save the right one there "
            "with `tokenizer.save_pretrained(...)`."
        )


def model_inputs(tokenizer: Any, model: Any) -> tuple[str, ...]:
    """The inputs that the tokenizer gives and the model takes, in the graph's order."""
    taken = inspect.signature(model.forward).parameters
    given = set(tokenizer.model_input_names)
    if not getattr(model.config, "type_vocab_size", 2):
        given.discard("token_type_ids")  # DeBERTa-v3's tokenizer gives types, the model has none
    return tuple(name for name in _INPUTS if name in given and name in taken)


def length_limit(tokenizer: Any, model: Any) -> int:
    """Tokens of the longest row that the model takes.

    `max_position_embeddings`, less what RoBERTa's descendants lose because their positions start
    behind the padding index (seen by the position table's own `padding_idx`), and not more than the
    tokenizer's `model_max_length`.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    limit = int(tokenizer.model_max_length)
    if positions is None or positions <= 0:  # relative positions alone
        return limit if limit < 1 << 20 else 512
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, torch.nn.Embedding):
            padding = module.padding_idx
            positions = module.num_embeddings - (0 if padding is None else padding + 1)
    return min(positions, limit)


def pad_token_id(tokenizer: Any, model: Any) -> int:
    """The padding token: the tokenizer's, else the model's, else 0."""
    for value in (tokenizer.pad_token_id, getattr(model.config, "pad_token_id", None)):
        if value is not None:
            return int(value)
    return 0
