"""Tiny checkpoints of every encoder family, built by code, with planted outlier channels.

Two layers, hidden size 32 unless said, random weights from a seed, a tokenizer of about 400 tokens,
saved with `save_pretrained`: small enough that a test exports one in seconds, real enough that it
goes through every stage. The families' configurations stand in `tests.families`.
"""

from __future__ import annotations

import contextlib
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.families import (
    HEADS,
    HIDDEN,
    LABELS,
    LAYERS,
    MAX_LENGTH,
    family_of,
    tiny_config,
)

if TYPE_CHECKING:  # torch and transformers load only when a checkpoint is built
    import torch
    from tokenizers import Tokenizer

__all__ = ["HEADS", "HIDDEN", "LABELS", "LAYERS", "MAX_LENGTH", "tiny_config"]

# The families that every stage is tested on; `tests.families` has all.
FAMILIES = (
    "bert",
    "distilbert",
    "roberta",
    "electra",
    "xlm-roberta",
    "mpnet",
    "deberta-v2",
    "modernbert",
)
INNER = 2 * HIDDEN
OUTLIER_CHANNELS = (5, 20)
_HEADS = {
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
}
_WORDS = (
    "the of and a to in is was what which who when where how many did does river city king "
    "war year first new world north south group people state century music light water name "
    "largest built born called known part long old team season game law church school energy "
)


def tiny_checkpoint(
    directory: str | Path,
    family: str = "bert",
    task: str = "sequence-classification",
    outliers: bool = True,
    seed: int = 0,
    hidden: int = HIDDEN,
    **settings: Any,
) -> Path:
    """Write a tiny Hugging Face checkpoint into `directory` and return it.

    Args:
        directory: made when absent.
        family: a name of `tests.families`.
        task: "sequence-classification" (2 labels), "token-classification" (3) or
            "question-answering".
        outliers: plant large values in `OUTLIER_CHANNELS` of LayerNorm scales and FFN outputs.
        seed: of the random weights; the same seed gives the same weights.
        hidden: channels.
        settings: of the configuration, in place of the family's.
    """
    import torch
    import transformers

    directory = Path(directory)
    tokenizer = tiny_tokenizer(family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = tiny_config(family, task, hidden, **settings)
        model = getattr(transformers, _HEADS[task]).from_config(config)
        if outliers:
            plant_outliers(model)
        if task != "question-answering":
            _balance(model, tokenizer, config.num_labels)
    with no_progress_bar():
        model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def tiny_adapter(
    directory: str | Path, base: Path, *, dtype: str = "float32", seed: int = 0, **options: Any
) -> Path:
    """Write a LoRA adapter (rank 4, random, with a trained head of two classes) over `base`.

    Args:
        directory: made when absent; holds the adapter alone, as PEFT saves it.
        base: checkpoint directory that the adapter names; its head, if any, is replaced.
        dtype: of the saved tensors.
        seed: of the random weights.
        options: of PEFT's `LoraConfig`.
    """
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file

    chosen: dict[str, Any] = {"task_type": "SEQ_CLS", "r": 4, "lora_alpha": 8}
    chosen["target_modules"] = ["query", "key", "value", "dense"]
    with torch.random.fork_rng(devices=[]), no_progress_bar():
        torch.manual_seed(seed)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
        wrapped = get_peft_model(model, LoraConfig(**(chosen | options)))
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:  # PEFT starts it at zero, where the adapter changes nothing
                torch.nn.init.normal_(parameter, std=0.05)
        wrapped.save_pretrained(directory)
    file = Path(directory) / "adapter_model.safetensors"
    save_file({n: t.to(getattr(torch, dtype)) for n, t in load_file(file).items()}, file)
    return Path(directory)


@contextlib.contextmanager
def no_progress_bar() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    yield
    if shown:
        logging.enable_progress_bar()


def _balance(model: torch.nn.Module, tokenizer: Any, classes: int) -> None:
    """Scale and shift the head, so that rows differ clearly and no class wins on every row."""
    import torch

    rng = random.Random(0)
    texts = ["".join(rng.choices(string.ascii_lowercase + "    ", k=60)) for _ in range(32)]
    batch = tokenizer(texts[:16], texts[16:], padding=True, return_tensors="pt")
    model.eval()
    with torch.no_grad():
        logits = model(**batch).logits.flatten(0, -2)
        head = [m for m in model.modules() if getattr(m, "out_features", 0) == classes][-1]
        # at most 8: a larger factor would also blow up the rounding that verification measures
        factor = (1 / logits.std(0).mean()).clamp(1, 8)
        head.weight *= factor
        if head.bias is not None:  # SqueezeBERT's like has one, a decoder's score has none
            head.bias -= logits.mean(0) * factor


def plant_outliers(model: Any) -> None:
    """Make `OUTLIER_CHANNELS` large where trained encoders have them.

    LayerNorm scales times 6, and FFN output biases plus 6 (where a family has no biases: the rows
    of that weight times 6).
    """
    import torch

    channels, hidden = list(OUTLIER_CHANNELS), getattr(model.config, "hidden_size", HIDDEN)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm) and module.weight.shape == (hidden,):
                module.weight[channels] *= 6
            elif isinstance(module, torch.nn.Linear) and module.weight.shape == (
                hidden,
                2 * hidden,
            ):
                if module.bias is not None:
                    module.bias[channels] += 6
                else:
                    module.weight[channels] *= 6


def tiny_tokenizer(family: str) -> Any:
    """The family's kind of tokenizer: WordPiece, byte-level BPE, or Unigram."""
    from transformers import PreTrainedTokenizerFast

    form = family_of(family)
    build = {"bpe": _bpe, "unigram": _unigram, "wordpiece": _wordpiece}[form.tokenizer]
    roberta_like = form.roberta_like
    names = "<s> <pad> </s> <unk>" if roberta_like else "[PAD] [UNK] [CLS] [SEP]"
    tokenizer = build(names.split(), "<unk>" if roberta_like else "[UNK]")
    _frame(tokenizer, double=roberta_like, roberta_like=roberta_like)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>" if roberta_like else "[UNK]",
        pad_token="<pad>" if roberta_like else "[PAD]",
        cls_token="<s>" if roberta_like else "[CLS]",
        sep_token="</s>" if roberta_like else "[SEP]",
        model_max_length=MAX_LENGTH,
        model_input_names=[
            "input_ids",
            *(["token_type_ids"] if form.types else []),
            "attention_mask",
        ],
    )


def _frame(tokenizer: Tokenizer, *, double: bool, roberta_like: bool) -> None:
    """`[CLS] A [SEP] B [SEP]` with types 0 and 1, or RoBERTa's `<s> A </s></s> B </s>`."""
    from tokenizers.processors import TemplateProcessing

    first, last = ("<s>", "</s>") if roberta_like else ("[CLS]", "[SEP]")
    middle = f"{last}:0 {last}:0" if double else f"{last}:0"
    second = 0 if double else 1
    tokenizer.post_processor = TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {middle} $B:{second} {last}:{second}",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in (first, last)],
    )


def _wordpiece(special: list[str], unknown: str) -> Tokenizer:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    letters = list(string.ascii_lowercase + string.digits + string.punctuation)
    pieces = [*special, *letters, *(f"##{c}" for c in letters), *_WORDS.split()]
    tokenizer = Tokenizer(models.WordPiece(_numbered(pieces), unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _bpe(special: list[str], unknown: str) -> Tokenizer:
    from tokenizers import Tokenizer, models, pre_tokenizers

    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    merges = []
    for word in _WORDS.split():
        built = "Ġ"
        for letter in word:
            if built + letter not in pieces:
                pieces.append(built + letter)
                merges.append((built, letter))
            built += letter
    tokenizer = Tokenizer(models.BPE(_numbered(pieces), merges, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def _unigram(special: list[str], unknown: str) -> Tokenizer:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    letters = list(string.ascii_letters + string.digits + string.punctuation)
    scored = [(t, 0.0) for t in special]
    scored += [(t, -9.0) for t in ["▁", *letters]] + [(f"▁{w}", -4.0) for w in _WORDS.split()]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=special.index(unknown)))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def _numbered(pieces: list[str]) -> dict[str, int]:
    return {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
