"""The encoder families of transformers and their configurations, written once.

`EXPORTED` are those that export and verify; `REFUSED` those that end in one clear error, with the
words it holds. Tests and benchmarks make tiny checkpoints of them with `tests.tiny`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch and transformers load only when a configuration is made
    from transformers import PretrainedConfig

HIDDEN = 32
LAYERS = 2
HEADS = 4
VOCABULARY = 512
MAX_LENGTH = 128  # tokens a tiny model takes, whatever its family's position offset

LABELS = {
    "sequence-classification": ("entailment", "not_entailment"),
    "token-classification": ("O", "B-NAME", "I-NAME"),
    "question-answering": ("LABEL_0", "LABEL_1"),  # start and end; transformers' own names
}
# Shared words that a family computes from others and refuses to be told.
_UNSETTABLE = {
    "funnel": ("num_hidden_layers", "max_position_embeddings"),
    "xlnet": ("max_position_embeddings",),
}

Options = Callable[[int], dict[str, Any]]


@dataclass(frozen=True)
class Family:
    """One form of an architecture.

    Attributes:
        model_type: its word in transformers.
        options: of the configuration for a hidden size, beside the shared ones.
        tokenizer: "wordpiece", "bpe" or "unigram".
        roberta_like: its tokens are framed as `<s> A </s></s> B </s>` and padded with 1.
        types: its tokenizer gives token types.
        offset: positions that the table has beyond `MAX_LENGTH`, since they count from
            pad_token_id + 1.
    """

    model_type: str
    options: Options = lambda hidden: {}
    tokenizer: str = "wordpiece"
    roberta_like: bool = False
    types: bool = False
    offset: int = 0


def _roberta(model_type: str, options: Options = lambda hidden: {}, **fields: Any) -> Family:
    chosen: dict[str, Any] = {"tokenizer": "unigram", "roberta_like": True, "offset": 2}
    return Family(model_type, lambda h: {"type_vocab_size": 1} | options(h), **(chosen | fields))


def _deberta(model_type: str, **options: Any) -> Family:
    shared = {"relative_attention": True, "position_biased_input": False, "type_vocab_size": 0}

    def of(hidden: int) -> dict[str, Any]:
        return shared | {"pooler_hidden_size": hidden} | options

    return Family(model_type, of, tokenizer="unigram", types=True)


_V3 = {
    "position_buckets": 16,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
}
_FRAME_TOKENS = {"cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}
_XLM = {"use_lang_emb": False, "n_langs": 1}


def _spread(hidden: int) -> float:
    """Of the weights: at 0.02 attention is flat and every row looks alike; sums grow with H, and
    beyond about this much every rounding tips an attention over."""
    return 0.15 * float(HIDDEN / hidden) ** 0.25


def _xlm(hidden: int) -> dict[str, Any]:
    sizes = {"emb_dim": hidden, "n_layers": LAYERS, "n_heads": HEADS}
    return _XLM | sizes | {"embed_init_std": _spread(hidden), "init_std": _spread(hidden)}


EXPORTED: dict[str, Family] = {
    "bert": Family("bert", types=True),
    "distilbert": Family(
        "distilbert",
        lambda h: {"dim": h, "hidden_dim": 2 * h, "n_layers": LAYERS, "n_heads": HEADS},
    ),
    "roberta": _roberta("roberta", tokenizer="bpe"),
    "electra": Family("electra", lambda h: {"embedding_size": h // 2}, types=True),
    "xlm-roberta": _roberta("xlm-roberta"),
    "mpnet": Family("mpnet", roberta_like=True, offset=2),
    "deberta-v2": _deberta("deberta-v2", **_V3),  # the options of DeBERTa-v3
    "modernbert": Family(  # one global and one local layer
        "modernbert",
        lambda h: {"global_attn_every_n_layers": 2, "local_attention": 16} | _FRAME_TOKENS,
        tokenizer="bpe",
    ),
    "albert": Family("albert", lambda h: {"embedding_size": h // 2}, types=True),
    "albert-two-groups": Family(
        "albert",
        lambda h: {"embedding_size": h // 2, "num_hidden_layers": 4, "num_hidden_groups": 2},
        types=True,
    ),
    "deberta": _deberta("deberta", pos_att_type=["c2p", "p2c"], max_relative_positions=-1),
    "deberta-v2-conv": _deberta(  # the options of DeBERTa-v2
        "deberta-v2", conv_kernel_size=3, conv_act="gelu", **_V3
    ),
    "convbert": Family(
        "convbert", lambda h: {"embedding_size": h // 2, "head_ratio": 2}, types=True
    ),
    "mobilebert": Family(
        "mobilebert",
        lambda h: {
            "embedding_size": h // 2,
            "intra_bottleneck_size": h // 2,
            "true_hidden_size": h // 2,
            "num_feedforward_networks": 2,
        },
        types=True,
    ),
    "squeezebert": Family("squeezebert", lambda h: {"embedding_size": h}, types=True),
    "roformer": Family("roformer", lambda h: {"embedding_size": h // 2}, types=True),
    "rembert": Family(
        "rembert",
        lambda h: {"input_embedding_size": h // 2, "output_embedding_size": h},
        types=True,
    ),
    "big_bird": Family("big_bird", lambda h: {"attention_type": "original_full"}, types=True),
    "layoutlm": Family("layoutlm", lambda h: {"max_2d_position_embeddings": 64}, types=True),
    "ernie": Family(
        "ernie", lambda h: {"task_type_vocab_size": 3, "use_task_id": True}, types=True
    ),
    "eurobert": Family(
        "eurobert",
        lambda h: {"num_key_value_heads": 2, "classifier_pooling": "late"} | _FRAME_TOKENS,
        tokenizer="bpe",
    ),
    "camembert": _roberta("camembert"),
    "data2vec-text": _roberta("data2vec-text", tokenizer="bpe"),
    "roberta-prelayernorm": _roberta("roberta-prelayernorm", tokenizer="bpe"),
    "xlm-roberta-xl": _roberta("xlm-roberta-xl"),
    "xmod": _roberta("xmod", lambda h: {"languages": ["en_XX"], "default_language": "en_XX"}),
    "megatron-bert": Family("megatron-bert", types=True),
    "roc_bert": Family(
        "roc_bert",
        lambda h: {
            "pronunciation_vocab_size": 8,
            "shape_vocab_size": 8,
            "pronunciation_embed_dim": 8,
            "shape_embed_dim": 8,
        },
        types=True,
    ),
    "xlm": Family("xlm", _xlm),
    "flaubert": Family("flaubert", _xlm),
    "esm": Family("esm", lambda h: {"position_embedding_type": "rotary", "mask_token_id": 4}),
    "esmc": Family("esmc", lambda h: {"mask_token_id": 4}),
    "gte": Family("gte", tokenizer="unigram"),
    "jina_embeddings_v3": _roberta("jina_embeddings_v3"),
    "nomic_bert": Family("nomic_bert", types=True),
    "ultrabert": Family("ultrabert", lambda h: {"prediction_head_size": h, "sliding_window": 16}),
    "nystromformer": _roberta(  # as many landmarks as a segment has tokens: plain attention
        "nystromformer", lambda h: {"num_landmarks": 8, "segment_means_seq_len": 8}
    ),
    "ibert": _roberta("ibert", tokenizer="bpe"),
    "yoso": _roberta("yoso"),
    "luke": _roberta("luke", lambda h: {"entity_vocab_size": 16, "entity_emb_size": 8}),
    "gpt2": Family(
        "gpt2", lambda h: {"n_embd": h, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 128}
    ),
    "llama": Family("llama", lambda h: {"num_key_value_heads": 2}),
    "modernbert-decoder": Family("modernbert-decoder", lambda h: _FRAME_TOKENS, tokenizer="bpe"),
}

# What the refusal says of each, in a piece.
REFUSED: dict[str, tuple[Family, str]] = {
    "bart": (
        Family("bart", lambda h: {"d_model": h, "encoder_layers": 1, "decoder_layers": 1}),
        "an encoder with a decoder behind it",
    ),
    "canine": (Family("canine", lambda h: {"type_vocab_size": 16}), "it hashes characters"),
    "fnet": (Family("fnet", types=True), "it takes no attention_mask"),
    "funnel": (
        Family(
            "funnel",
            lambda h: {
                "d_model": h,
                "block_sizes": [1, 1],
                "n_head": HEADS,
                "d_head": h // HEADS,
                "d_inner": 2 * h,
            },
            types=True,
        ),
        "it pools tokens",
    ),
    "longformer": (
        _roberta("longformer", lambda h: {"attention_window": [16, 16]}, tokenizer="bpe"),
        "it pads a row to its attention windows",
    ),
    "mra": (_roberta("mra"), "zeros in place of its attention"),
    "nystromformer-landmarks": (
        _roberta(
            "nystromformer", lambda h: {"num_landmarks": 8, "segment_means_seq_len": MAX_LENGTH}
        ),
        "does not run in torch",
    ),
    "perceiver": (
        Family("perceiver", lambda h: {"d_model": h, "d_latents": h, "num_latents": 8}),
        "it reads bytes",
    ),
    "reformer": (
        Family(
            "reformer",
            lambda h: {
                "attention_head_size": h // HEADS,
                "axial_pos_embds_dim": [h // 2, h // 2],
                "axial_pos_shape": [8, 16],
                "feed_forward_size": 2 * h,
                "attn_layers": ["local", "lsh"],
                "num_buckets": 4,
                "is_decoder": False,
            },
        ),
        "it hashes tokens into random buckets",
    ),
    "t5": (
        Family("t5", lambda h: {"d_model": h, "d_kv": h // HEADS, "d_ff": 2 * h}),
        "an encoder with a decoder behind it",
    ),
    "tapas": (Family("tapas", types=True), "it reads seven token types of a table"),
    "xlnet": (
        Family("xlnet", lambda h: {"d_model": h, "n_layer": 1, "n_head": HEADS, "d_inner": 2 * h}),
        "torch has no ONNX form",
    ),
}


def family_of(name: str) -> Family:
    """The form of that name, exported or refused."""
    return EXPORTED[name] if name in EXPORTED else REFUSED[name][0]


def tiny_config(
    family: str,
    task: str = "sequence-classification",
    hidden: int = HIDDEN,
    **options: Any,
) -> PretrainedConfig:
    """The family's configuration with 2 layers (an ALBERT of two groups: 4).

    Args:
        family: a name of `EXPORTED` or `REFUSED`.
        task: of the head; it gives the names of the classes.
        hidden: channels.
        options: replace what the family has.
    """
    from transformers import AutoConfig

    labels = LABELS[task]
    form = family_of(family)
    shared: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": MAX_LENGTH + form.offset,
        "initializer_range": _spread(hidden),
        "pad_token_id": 1 if form.roberta_like else 0,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    chosen = shared | form.options(hidden) | options
    for word in _UNSETTABLE.get(form.model_type, ()):
        chosen.pop(word, None)
    return AutoConfig.for_model(form.model_type, **chosen)
