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
_XLM = {"use_lang_emb": False, "n_langs": 1, "embed_init_std": 0.15, "init_std": 0.15}


def _xlm(hidden: int) -> dict[str, Any]:
    return _XLM | {"emb_dim": hidden, "n_layers": LAYERS, "n_heads": HEADS}


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
    "nystromformer": _roberta(
        "nystromformer",
        lambda h: {"num_landmarks": 8, "segment_means_seq_len": MAX_LENGTH + 2},
    ),
    "ibert": _roberta("ibert", tokenizer="bpe"),
    "mra": _roberta("mra"),
    "yoso": _roberta("yoso"),
    "fnet": Family("fnet", lambda h: {"use_tpu_fourier_optimizations": False}, types=True),
    "funnel": Family(
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
    "longformer": _roberta("longformer", lambda h: {"attention_window": [16, 16]}, tokenizer="bpe"),
    "luke": _roberta("luke", lambda h: {"entity_vocab_size": 16, "entity_emb_size": 8}),
    "lilt": _roberta("lilt", lambda h: {"max_2d_position_embeddings": 64}),
    "markuplm": _roberta("markuplm", lambda h: {"max_xpath_tag_unit_embeddings": 16}),
    "tapas": Family("tapas", types=True),
    "canine": Family("canine", lambda h: {"type_vocab_size": 16}, types=True),
    "perceiver": Family(
        "perceiver",
        lambda h: {
            "d_model": h,
            "d_latents": h,
            "num_latents": 8,
            "num_self_attends_per_block": 2,
            "num_self_attention_heads": HEADS,
            "num_cross_attention_heads": HEADS,
        },
    ),
    "reformer": Family(
        "reformer",
        lambda h: {
            "attention_head_size": h // HEADS,
            "axial_pos_embds_dim": [h // 2, h // 2],
            "axial_pos_shape": [8, 16],
            "feed_forward_size": 2 * h,
            "attn_layers": ["local", "lsh"],
            "num_hashes": 1,
            "num_buckets": 4,
            "is_decoder": False,
        },
    ),
    "xlnet": Family(
        "xlnet", lambda h: {"d_model": h, "n_layer": LAYERS, "n_head": HEADS, "d_inner": 2 * h}
    ),
    "bart": Family("bart", lambda h: {"d_model": h, "encoder_layers": 2, "decoder_layers": 2}),
    "t5": Family("t5", lambda h: {"d_model": h, "d_kv": h // HEADS, "d_ff": 2 * h}),
    "gpt2": Family("gpt2", lambda h: {"n_embd": h, "n_layer": LAYERS, "n_head": HEADS}),
    "llama": Family("llama", lambda h: {"num_key_value_heads": 2}),
    "modernbert-decoder": Family("modernbert-decoder", lambda h: _FRAME_TOKENS, tokenizer="bpe"),
}


def tiny_config(
    family: str,
    task: str = "sequence-classification",
    hidden: int = HIDDEN,
    labels: tuple[str, ...] = ("entailment", "not_entailment"),
) -> PretrainedConfig:
    """The family's configuration with 2 layers (an ALBERT of two groups: 4)."""
    from transformers import AutoConfig

    form = EXPORTED[family]
    shared: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": MAX_LENGTH + form.offset,
        "initializer_range": 0.15,  # at 0.02 attention is flat and every row looks alike
        "pad_token_id": 1 if form.roberta_like else 0,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    return AutoConfig.for_model(form.model_type, **(shared | form.options(hidden)))
