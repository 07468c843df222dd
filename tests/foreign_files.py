"""ONNX files of tiny checkpoints, made with their makers' own tools."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.tiny import HEADS, no_progress_bar

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_CLASSES = {
    "sequence-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "sentence-embedding": "AutoModel",
    "pooled-embedding": "AutoModel",
}
OUTPUTS = {
    "sequence-classification": ["logits"],
    "token-classification": ["logits"],
    "question-answering": ["start_logits", "end_logits"],
    "sentence-embedding": ["last_hidden_state"],
    "pooled-embedding": ["token_embeddings", "sentence_embedding"],
}


def _loaded(checkpoint: Path, task: str, attention: str) -> tuple[Any, dict[str, Any]]:
    import transformers

    kind = getattr(transformers, _CLASSES[task])
    with no_progress_bar():
        model = kind.from_pretrained(checkpoint, attn_implementation=attention).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    given = tokenizer(
        ["one text", "another text that is longer"],
        ["first", "second"],
        padding=True,
        return_tensors="pt",
    )
    feeds = {name: given[name] for name in _INPUTS if name in given}
    if task.endswith("embedding"):
        model = _vectors_of(model, pooled=task == "pooled-embedding")
    return model, feeds


def _vectors_of(model: Any, *, pooled: bool) -> Any:
    """The encoder with its last vectors, which the first exporter cannot call otherwise.

    Args:
        pooled: with their mean beside them, written as sentence-transformers writes it.
    """
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
            read = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
            tokens = self.encoder(input_ids, attention_mask, **read).last_hidden_state
            if not pooled:
                return tokens
            mask = attention_mask.unsqueeze(-1).expand(tokens.size()).float()
            return tokens, (tokens * mask).sum(1) / torch.clamp(mask.sum(1), min=1e-9)

    return Encoder().eval()


def torchscript(
    checkpoint: Path,
    file: Path,
    task: str = "sequence-classification",
    *,
    opset: int = 14,
    attention: str = "eager",
    free: tuple[int, ...] = (0, 1),
    size: tuple[int, int] | None = None,
    positions: bool = False,
    names: Mapping[str, str] | None = None,
) -> Path:
    """What torch's first exporter writes, as Optimum uses it.

    Args:
        free: axes that are dynamic.
        size: batch and sequence of the example, padded in its last row; two short texts without.
        positions: with an input `position_ids`.
        names: of inputs and outputs, in the place of transformers' own.
    """
    import torch

    model, feeds = _loaded(checkpoint, task, attention)
    if size is not None:
        feeds = {name: _example(name, *size) for name in feeds}
    if positions:
        feeds["position_ids"] = torch.arange(feeds["input_ids"].shape[1]).expand(
            len(feeds["input_ids"]), -1
        )
    called = {name: (names or {}).get(name, name) for name in (*feeds, *OUTPUTS[task])}
    words = {at: ("batch_size", "sequence_length")[at] for at in free}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer speaks of every size that it reads
        torch.onnx.export(
            model,
            (),
            str(file),
            kwargs=feeds,
            dynamo=False,
            opset_version=opset,
            input_names=[called[name] for name in feeds],
            output_names=[called[name] for name in OUTPUTS[task]],
            dynamic_axes={called[name]: words for name in feeds} if free else None,
        )
    return file


def _example(name: str, batch: int, sequence: int) -> Any:
    """One input of rows of one size, int64 [batch, sequence]."""
    import torch

    if name == "token_type_ids":
        return torch.zeros(batch, sequence, dtype=torch.int64)
    if name == "input_ids":
        return torch.arange(5, 5 + batch * sequence).reshape(batch, sequence)
    mask = torch.ones(batch, sequence, dtype=torch.int64)
    mask[-1, sequence // 2 :] = 0
    return mask


def t5_encoder(home: Path) -> Path:
    """A directory's config.json and model.onnx of a tiny random T5 encoder of two layers."""
    import torch
    import transformers

    config = transformers.T5Config(
        vocab_size=512, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    )
    model = transformers.T5EncoderModel(config).eval()
    config.architectures = ["T5EncoderModel"]
    config.save_pretrained(home)

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            read = {"input_ids": input_ids, "attention_mask": attention_mask}
            return self.encoder(**read).last_hidden_state

    names, file = ["input_ids", "attention_mask"], home / "model.onnx"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Encoder().eval(),
            tuple(_example(name, 2, 8) for name in names),
            str(file),
            dynamo=False,
            opset_version=14,
            input_names=names,
            output_names=["last_hidden_state"],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in names},
        )
    return file


def dynamo(
    checkpoint: Path,
    file: Path,
    *,
    opset: int = 18,
    attention: str = "sdpa",
    size: tuple[int, int] | None = None,
) -> Path:
    """What torch's second exporter writes, by default with torch's own attention.

    Args:
        size: batch and sequence of the example, and of everything else; free without.
    """
    import torch

    model, feeds = _loaded(checkpoint, "sequence-classification", attention)
    if size is not None:
        feeds = {name: _example(name, *size) for name in feeds}
    dynamic = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (),
            str(file),
            kwargs=feeds,
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=None
            if size is not None
            else {name: {0: dynamic, 1: dynamic} for name in feeds},
            input_names=list(feeds),
            output_names=["logits"],
            external_data=False,
            verbose=False,
        )
    return file


def optimized(
    source: Path, file: Path, *, level: int = 0, half: bool = False, separate: bool = False
) -> Path:
    """What ONNX Runtime's optimizer of transformers writes.

    Args:
        level: of the session that runs before the fusions; Optimum's O2 has 1.
        half: in FP16, with inputs and outputs as they were.
        separate: attention without its products (MultiHeadAttention).
    """
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions("bert")
    options.use_multi_head_attention = separate

    model = optimizer.optimize_model(
        str(source),
        model_type="bert",
        num_heads=HEADS,
        hidden_size=32,
        opt_level=level,
        optimization_options=options,
    )
    if half:
        model.convert_float_to_float16(keep_io_types=True)
    model.save_model_to_file(str(file))
    return file


def extended(source: Path, file: Path) -> Path:
    """What a session of ONNX Runtime saves of its own optimizations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(file)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return file


def dynamic_int8(source: Path, file: Path) -> Path:
    """What ONNX Runtime's dynamic quantization writes."""
    import logging

    from onnxruntime.quantization import quantize_dynamic

    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(str(source), str(file))
    finally:
        logging.disable(logging.NOTSET)
    return file


def four_bits(source: Path, file: Path) -> Path:
    """What ONNX Runtime's quantizer of weights alone writes: MatMulNBits."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=16, is_symmetric=True)
    quantizer.process()
    quantizer.model.save_model_to_file(str(file))
    return file


def half(source: Path, file: Path, *, keeps_types: bool = True) -> Path:
    """What transformers.js has as `fp16`, by ONNX Runtime's conversion."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=keeps_types), file)
    return file
