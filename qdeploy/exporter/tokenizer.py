"""The checkpoint's tokenizer as one `tokenizer.json`, and the tokens that the model takes."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.errors import CheckpointError, QDeployWarning
from qdeploy.exporter.checkpoint import Checkpoint
from qdeploy.exporter.quiet import quiet
from qdeploy.exporter.sentence_parts import SentenceParts
from qdeploy.machine.remedies import install_command
from qdeploy.names import few

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# Order of the graph's inputs.
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Tokens that a batch cannot do without.
_FRAMING = ("pad_token", "cls_token", "sep_token", "bos_token", "eos_token", "unk_token")
_PAIR = 2  # types of a pair of texts
_SHOWN = 5  # tokens listed in a text


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerFast:
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
            f"models also need `{install_command(packages=('sentencepiece', 'protobuf'))}`."
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise CheckpointError(
            f"The tokenizer of {directory} ({type(tokenizer).__name__}) has no fast form, so no "
            "tokenizer.json can be written. Save a fast one into that directory with "
            "`tokenizer.save_pretrained(...)`."
        )
    if checkpoint.parts is not None:
        _follow(tokenizer, checkpoint.parts)
    try:
        with quiet():
            tokenizer("one text", "another text")
    except Exception as error:  # LayoutLMv3's wants boxes, MarkupLM's wants the paths of a page
        raise CheckpointError(
            f"The tokenizer of {directory} ({type(tokenizer).__name__}) does not encode a plain "
            f"pair of texts: {' '.join(str(error).split())[:200]} qdeploy exports models of text "
            "alone; save a plain tokenizer into that directory if this one reads text too."
        ) from error
    return tokenizer


def _follow(tokenizer: PreTrainedTokenizerFast, parts: SentenceParts) -> None:
    """Read texts as sentence-transformers does: cut to its limit, and in lower case if told so."""
    if parts.max_length is not None:
        tokenizer.model_max_length = min(parts.max_length, int(tokenizer.model_max_length))
    if parts.lower_case:
        from tokenizers.normalizers import Lowercase, Sequence

        inner = tokenizer.backend_tokenizer
        given = [] if inner.normalizer is None else [inner.normalizer]
        inner.normalizer = Sequence([Lowercase(), *given])


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    """Write `tokenizer.json` and its companions, with no padding or truncation baked in."""
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    with quiet():
        tokenizer.save_pretrained(directory)


def embedding_rows(model: PreTrainedModel) -> int:
    """Rows of the table that the token ids index.

    Raises:
        CheckpointError: the model has no such table.
    """
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError):
        raise CheckpointError(
            f"{type(model).__name__} has no table of token embeddings, so it does not read what a "
            "tokenizer.json gives. Fine-tune an encoder such as BERT, RoBERTa, DeBERTa or "
            "ModernBERT."
        ) from None


def check_vocabulary(tokenizer: PreTrainedTokenizerFast, rows: int, directory: Path) -> None:
    """Compare the tokenizer with the embedding table: every token needs a row there.

    A regular or a framing token without a row is an error. Tokens that were added and never got
    one are a warning: texts without them are right, and `predict` names the token in the others.

    Args:
        rows: of the table; see `embedding_rows`.
        directory: of the tokenizer, for the text.

    Raises:
        CheckpointError: the tokenizer is of another model, or no text can be encoded.
    """
    if tokenizer.vocab_size > rows:
        raise CheckpointError(
            f"The tokenizer of {directory} has {tokenizer.vocab_size} tokens, and the "
            f"model embeds {rows}: it is the tokenizer of another model. Save the right one there "
            "with `tokenizer.save_pretrained(...)`."
        )
    without = [(i, token) for token, i in tokenizer.get_vocab().items() if i >= rows]
    if not without:
        return
    names = [token for _, token in sorted(without)]
    fact = (
        f"{len(names)} tokens of {directory} have no row in the model's table of {rows} "
        f"embeddings: {few(names, _SHOWN)}."
    )
    framing = [n for n in names if n in {getattr(tokenizer, key, None) for key in _FRAMING}]
    if framing:
        raise CheckpointError(
            f"{fact} {framing[0]} stands in every batch, so none can run. Call "
            "`model.resize_token_embeddings(len(tokenizer))`, train the new rows and save again."
        )
    warnings.warn(
        f"{fact} A text with one of them is refused when it is encoded. If the model was trained "
        "with them, call `model.resize_token_embeddings(len(tokenizer))`, train and save again; "
        "otherwise take them out of the tokenizer.",
        QDeployWarning,
        stacklevel=3,
    )


def check_types(tokenizer: PreTrainedTokenizerFast, inputs: Sequence[str], kinds: object) -> None:
    """Refuse token types that the model has no row for.

    Args:
        inputs: names of the model's inputs.
        kinds: `type_vocab_size` of config.json, or None.

    Raises:
        CheckpointError: naming `type_vocab_size`.
    """
    if "token_type_ids" not in inputs or not isinstance(kinds, int):
        return
    encoded = tokenizer("one text", "another text", return_token_type_ids=True)
    largest = max(encoded["token_type_ids"])
    if largest >= kinds:
        raise CheckpointError(
            f"The tokenizer gives token types up to {largest}, and the model embeds {kinds} "
            f"(type_vocab_size in config.json). Save the tokenizer that the model was trained with."
        )


def model_inputs(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> tuple[str, ...]:
    """The inputs that the tokenizer gives and the model takes, in the graph's order.

    The mask is taken from any tokenizer, since every row of a batch needs it. Token types are left
    out where the model has one type or none: transformers then uses type 0 by itself, and a second
    type would have no row (a BERT tokenizer beside a RoBERTa, DeBERTa-v3's own).

    Raises:
        CheckpointError: the model takes no `attention_mask`.
    """
    taken = inspect.signature(model.forward).parameters
    if "attention_mask" not in taken:
        raise CheckpointError(
            f"{type(model).__name__} takes no attention_mask, so that the logits of a row depend "
            "on how far it is padded. Fine-tune an encoder such as BERT, RoBERTa, DeBERTa or "
            "ModernBERT."
        )
    given = {"attention_mask", *tokenizer.model_input_names}
    types = getattr(model.config, "type_vocab_size", 2)
    if isinstance(types, int) and types < _PAIR:
        given.discard("token_type_ids")
    return tuple(name for name in _INPUTS if name in given and name in taken)


def length_limit(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> int:
    """Tokens of the longest row that the model takes.

    `max_position_embeddings`, less what RoBERTa's descendants lose because their positions start
    behind the padding index (seen by the position table's own `padding_idx`), and not more than the
    tokenizer's `model_max_length`.
    """
    import torch

    positions = getattr(model.config, "max_position_embeddings", None)
    limit = int(tokenizer.model_max_length)
    if positions is None or positions <= 0:  # relative positions alone
        return limit if limit < 1 << 20 else 512
    for name, module in model.named_modules():
        # not LayoutLM's x_position_embeddings, which count places on a page
        if name.rpartition(".")[2] == "position_embeddings" and isinstance(
            module, torch.nn.Embedding
        ):
            padding = module.padding_idx
            positions = module.num_embeddings - (0 if padding is None else padding + 1)
    return min(positions, limit)


def pad_token_id(tokenizer: PreTrainedTokenizerFast, rows: int, configured: object) -> int:
    """The padding token: the tokenizer's, else the model's, else 0.

    Args:
        rows: of the table; see `embedding_rows`.
        configured: `pad_token_id` of config.json, or None.

    Raises:
        CheckpointError: it has no row in the embedding table.
    """
    for value in (tokenizer.pad_token_id, configured):
        if isinstance(value, int) and value >= rows:
            raise CheckpointError(
                f"The padding token {value} has no row in the model's table of {rows} embeddings. "
                "Correct pad_token_id in config.json, or the tokenizer's padding token."
            )
        if isinstance(value, int) and value >= 0:
            return value
    return 0
