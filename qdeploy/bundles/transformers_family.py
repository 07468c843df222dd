"""What loads a directory of transformers with a graph in it: Optimum, sentence-transformers,
text-embeddings-inference, transformers.js."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qdeploy.bundles.source import Source, copy_tokenizer, refuse, refuse_prompt, write_graph
from qdeploy.errors import PlanError
from qdeploy.files.artifact import read_json, write_json
from qdeploy.head import CONFIG as CONFIG_JSON
from qdeploy.head import EMBEDDINGS, SEQUENCES, SPANS, TOKENS
from qdeploy.sentence_layout import CLASSES, CONFIG, MODULES, SWITCHES, TRANSFORMER_CONFIG

# What backends/ort/src/lib.rs of text-embeddings-inference reads in every config.json (2026-11),
# and how DistilBERT's calls it.
_DISTILBERT = {"hidden_size": "dim", "num_hidden_layers": "n_layers"}


def optimum(source: Source, work: Path) -> str:
    """`ORTModelFor…` and `OVModelFor…`, and with them `pipeline()`."""
    refuse(source, "Optimum", heads=(SEQUENCES, TOKENS, SPANS, EMBEDDINGS))
    copy_tokenizer(source, work)
    place = "openvino_model.xml" if source.is_openvino else "model.onnx"
    write_graph(source, work / place, _outputs(source))
    kind = {
        SEQUENCES: "SequenceClassification",
        TOKENS: "TokenClassification",
        SPANS: "QuestionAnswering",
        EMBEDDINGS: "FeatureExtraction",
    }[source.head.task]
    package, prefix, more = "onnxruntime", "ORT", ""
    if source.is_openvino:
        package, prefix, more = "intel", "OV", f", ov_config={json.dumps(source.ov_config)}"
    return (
        f"from optimum.{package} import {prefix}ModelFor{kind}\n\n"
        f'model = {prefix}ModelFor{kind}.from_pretrained("{{out}}"{more})'
    )


def sentence_transformers(source: Source, work: Path) -> str:
    """`SentenceTransformer(OUT, backend=…)`, and `CrossEncoder` of rerankers and classifiers."""
    refuse(source, "sentence-transformers", heads=(SEQUENCES, EMBEDDINGS))
    copy_tokenizer(source, work)
    backend = "openvino" if source.is_openvino else "onnx"
    place = "openvino_model.xml" if source.is_openvino else "model.onnx"
    embeds = source.head.task == EMBEDDINGS
    write_graph(source, work / backend / place, _outputs(source))
    if embeds:
        _write_modules(source, work)
    name = "SentenceTransformer" if embeds else "CrossEncoder"
    more = ""
    if source.is_openvino and not embeds:  # which reads no file of settings
        more = f", model_kwargs={json.dumps({'ov_config': source.ov_config})}"
    return (
        f"from sentence_transformers import {name}\n\n"
        f'model = {name}("{{out}}", backend="{backend}"{more})'
    )


def text_embeddings_inference(source: Source, work: Path) -> str:
    """The ONNX backend of text-embeddings-inference, which pools the vectors of tokens itself."""
    refuse(source, "text-embeddings-inference", heads=(SEQUENCES, EMBEDDINGS))
    if source.is_openvino:
        raise PlanError("text-embeddings-inference runs ONNX Runtime. Build for ort-cpu.")
    refuse_prompt(source, "text-embeddings-inference")
    copy_tokenizer(source, work)
    config = read_json(work / CONFIG_JSON)
    named = {name: config[other] for name, other in _DISTILBERT.items() if other in config}
    write_json(work / CONFIG_JSON, named | config)
    embeds = source.head.task == EMBEDDINGS
    write_graph(source, work / "onnx" / "model.onnx", _outputs(source))
    if embeds:
        _write_modules(source, work)
    return "text-embeddings-router --model-id {out}"


def transformers_js(source: Source, work: Path) -> str:
    """transformers.js, in Node and in browsers: its file for `dtype: "q8"`."""
    refuse(source, "transformers.js", heads=(SEQUENCES, TOKENS, SPANS, EMBEDDINGS))
    if source.is_openvino:
        raise PlanError("transformers.js runs ONNX Runtime. Build for ort-cpu.")
    refuse_prompt(source, "transformers.js")
    copy_tokenizer(source, work, for_python=False)
    write_graph(source, work / "onnx" / "model_quantized.onnx", _outputs(source))
    task = {
        SEQUENCES: "text-classification",
        TOKENS: "token-classification",
        SPANS: "question-answering",
        EMBEDDINGS: "feature-extraction",
    }[source.head.task]
    return (
        'import { pipeline, env } from "@huggingface/transformers";\n\n'
        'env.localModelPath = "{parent}";\n'
        f'const run = await pipeline("{task}", "{{name}}", {{ dtype: "q8" }});'
    )


def _outputs(source: Source) -> dict[str, str]:
    """Names of the outputs that are kept; what embeds pools by itself, from the last states."""
    if source.head.task == EMBEDDINGS:
        return {"token_embeddings": "last_hidden_state"}
    return {name: name for name in source.head.answers}


def _write_modules(source: Source, work: Path) -> None:
    """modules.json and what it lists: pooling, and the vector's length.

    Raises:
        PlanError: parts with weights, which stand in the graph behind the pooling.
    """
    facts = source.head.embedding
    assert facts is not None
    hidden: Any = source.manifest.get("hidden_size")
    if facts.get("weighted"):
        raise PlanError(
            f"{source.directory} has a Dense layer or a LayerNorm behind its pooling, which stands "
            "in the graph alone: what pools by itself would leave it out. Serve it with the"
            " engine's own predict.py, or bundle it with --format fastapi."
        )
    size = int(hidden) if hidden else facts["dimension"] // len(facts["pooling"])
    kinds = ["Transformer", "Pooling", *(["Normalize"] if facts["normalized"] else [])]
    listed = []
    for at, kind in enumerate(kinds):
        path = "" if kind == "Transformer" else f"{at}_{kind}"
        if path:
            (work / path).mkdir()
        listed.append({"idx": at, "name": str(at), "path": path, "type": f"{CLASSES}.{kind}"})
    write_json(work / MODULES, listed)
    write_json(work / "1_Pooling" / "config.json", _pooling(facts["pooling"], size))
    settings: dict[str, Any] = {
        "max_seq_length": source.manifest["max_length"],
        "do_lower_case": False,
    }
    if source.is_openvino:
        settings["model_args"] = {"ov_config": source.ov_config}
    write_json(work / TRANSFORMER_CONFIG, settings)
    write_json(
        work / CONFIG,
        {
            "prompts": facts.get("prompts", {}),
            "default_prompt_name": facts.get("default_prompt"),
            "similarity_fn_name": facts.get("similarity") or "cosine",
        },
    )


def _pooling(modes: list[str], size: int) -> dict[str, object]:
    """In the switches that every release reads, text-embeddings-inference too."""
    switches = {switch: mode in modes for switch, mode in SWITCHES.items()}
    return {"word_embedding_dimension": size, **switches, "include_prompt": True}
