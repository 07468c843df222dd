"""One short name for each place, whatever the family calls it."""

from __future__ import annotations

import pytest

from qdeploy.names import short_list, short_name

# Site names as they are found in checkpoints of each family.
BERT = "bert.encoder.layer.11"
ALBERT = "albert.encoder.albert_layer_groups.0.albert_layers.0"
NAMES = {
    f"{BERT}.attention.self.query.input": "L11 attn.query.input",
    f"{BERT}.attention.self.softmax": "L11 attn.softmax",
    f"{BERT}.attention.output.dense.input": "L11 attn.output.input",
    f"{BERT}.attention.output.LayerNorm.input": "L11 attn.output.norm.input",
    f"{BERT}.intermediate.dense.output": "L11 ffn.intermediate.output",
    f"{BERT}.output.dense": "L11 ffn.output",
    f"{BERT}.output.dense.input": "L11 ffn.output.input",
    f"{BERT}.output.dense.output": "L11 ffn.output.output",
    f"{BERT}.output.LayerNorm.input": "L11 ffn.output.norm.input",
    "bert.embeddings.word_embeddings": "embeddings.word_embeddings",
    "bert.embeddings.LayerNorm.input": "embeddings.norm.input",
    "bert.pooler.dense.input": "pooler.input",
    "classifier.input": "classifier.input",
    "distilbert.transformer.layer.0.attention.q_lin.input": "L0 attn.q_lin.input",
    "distilbert.transformer.layer.0.sa_layer_norm.input": "L0 sa_layer_norm.input",
    "distilbert.transformer.layer.0.ffn.lin2.input": "L0 ffn.lin2.input",
    "distilbert.transformer.layer.0.output_layer_norm.input": "L0 output_layer_norm.input",
    "pre_classifier.output": "pre_classifier.output",
    "deberta.encoder.layer.2.attention.self.query_proj.matmul": "L2 attn.query_proj.matmul",
    "deberta.encoder.LayerNorm.output": "encoder.norm.output",
    "model.layers.3.attn.Wqkv.input": "L3 attn.Wqkv.input",
    "model.layers.3.attn.mul#2": "L3 attn.mul#2",
    "model.layers.3.mlp_norm.input": "L3 mlp_norm.input",
    "model.layers.3.mlp.act.gelu": "L3 mlp.act.gelu",
    "model.final_norm.input": "final_norm.input",
    "head.dense.input": "head.dense.input",
    f"{ALBERT}.attention.dense.input": "L0 attn.dense.input",
    f"{ALBERT}.attention.query#2.input": "L0 attn.query#2.input",
    f"{ALBERT}.attention.LayerNorm.input#2": "L0 attn.norm.input#2",
    f"{ALBERT}.ffn.input": "L0 ffn.input",
    f"{ALBERT}.ffn_output.input": "L0 ffn_output.input",
    f"{ALBERT}.full_layer_layer_norm.input": "L0 full_layer_layer_norm.input",
    "albert.encoder.embedding_hidden_mapping_in.input": "encoder.embedding_hidden_mapping_in.input",
    "mpnet.encoder.layer.1.attention.attn.q.input": "L1 attn.q.input",
    "mpnet.encoder.layer.1.attention.attn.o.output": "L1 attn.o.output",
    "mpnet.encoder.layer.1.attention.LayerNorm.input": "L1 attn.norm.input",
    "mobilebert.encoder.layer.5.ffn.0.output.dense.input": "L5 ffn.0.output.input",
    "mobilebert.encoder.layer.5.output.dense.input": "L5 ffn.output.input",
    # what is counted stands in front of the number
    "transformer.attentions.4.q_lin.input": "L4 attn.q_lin.input",
    "transformer.ffns.4.lin1.input": "L4 ffn.lin1.input",
    "transformer.layer_norm1.4.input": "L4 layer_norm1.input",
    "transformer.layer_norm2.4.input": "L4 layer_norm2.input",
    # ONNX files of others
    "/model/layers.7/attn/q/MatMul": "L7 attn/q/MatMul",
    "/bert/encoder/layer.7/attention/self/query/MatMul_quant": "L7 attn/query/MatMul_quant",
    "MatMul_17": "MatMul_17",
    "": "",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name(name: str) -> None:
    assert short_name(name) == NAMES[name]


def test_no_two_places_have_one_name() -> None:
    assert len(set(NAMES.values())) == len(NAMES)


def test_words_are_whole() -> None:
    """`self_attention` and `outputs` are other words than `attention` and `output`."""
    for rest in ("self_attention.query", "outputs.dense.input", "attentive.x", "denser.input"):
        assert short_name(f"encoder.layer.0.{rest}") == f"L0 {rest}"


def test_a_list_names_the_first_and_counts_the_rest() -> None:
    names = [f"{BERT}.output.dense.input", "classifier.input", "a", "b"]
    assert short_list(names, 2) == "L11 ffn.output.input, classifier.input and 2 more"
    assert short_list(names[:2], 2) == "L11 ffn.output.input, classifier.input"
