"""What a file is not: quantized, a decoder, or without weights that can be quantized."""

from __future__ import annotations

import onnx_ir as ir

from qdeploy.errors import CheckpointError
from qdeploy.exporter.from_onnx.edit import array_of, readers

_QUANTIZED = (
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"),
    *("ConvInteger", "MatMulNBits", "MatMulBnb4", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
    *("QAttention", "QEmbedLayerNormalization", "QOrderedMatMul", "QGemm", "MatMulFpQ4"),
)
_DECODERS = (
    "GroupQueryAttention",
    "DecoderMaskedMultiHeadAttention",
    "BeamSearch",
    "PagedAttention",
)
_CARRIERS = ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Clip", "Where")


def check_float(model: ir.Model, origin: str) -> None:
    """Refuse a file that is quantized.

    Raises:
        CheckpointError: naming the operator.
    """
    for node in model.graph.all_nodes():
        kind = node.op_type
        if kind in _QUANTIZED or kind.startswith("QLinear"):
            raise CheckpointError(
                f"{origin} is quantized already (it has {kind} nodes), and qdeploy starts from "
                "float weights. Pass the FP32 file it was made of, most often model.onnx beside "
                "it; `qdeploy inspect` looks into a quantized one."
            )


def check_encoder(model: ir.Model, origin: str) -> None:
    """Refuse a decoder, and a graph without a product with a stored matrix.

    Raises:
        CheckpointError: with what it has.
    """
    kinds = {node.op_type for node in model.graph.all_nodes()}
    decoder = next((kind for kind in _DECODERS if kind in kinds), None)
    outputs = [str(value.name) for value in model.graph.outputs]
    cached = next((name for name in outputs if name.startswith(("present", "past_"))), None)
    if decoder or cached:
        raise CheckpointError(
            f"{origin} has {decoder or cached}: it is a decoder, and qdeploy exports encoders. "
            "Pass the file of an encoder such as BERT, RoBERTa, DeBERTa or ModernBERT."
        )
    stored = ("MatMul", "Gemm", "FusedMatMul", "Attention", "Conv")
    for node in model.graph:
        if node.op_type in stored and any(_weight(value) for value in node.inputs):
            return
    raise CheckpointError(
        f"{origin} has no product with a stored matrix, so there is nothing to quantize. Pass the "
        "file of an encoder such as BERT."
    )


def _weight(value: ir.Value | None) -> bool:
    while value is not None and (node := value.producer()) is not None:
        if node.op_type not in ("Transpose", *_CARRIERS) and array_of(value) is None:
            return False
        if array_of(value) is not None:
            break
        value = node.inputs[0]
    array = array_of(value)
    return array is not None and array.ndim >= 2


def table_rows(model: ir.Model, origin: str) -> int:
    """Rows of the table that the token ids index.

    Raises:
        CheckpointError: there is no such table.
    """
    pending = [value for value in model.graph.inputs if value.name == "input_ids"]
    seen = set(pending)
    while pending:
        value = pending.pop(0)
        for node in readers(value):
            table = None
            if node.op_type == "Gather" and node.inputs[1] is value:
                table = array_of(node.inputs[0])
            elif node.op_type == "EmbedLayerNormalization" and node.inputs[0] is value:
                table = array_of(node.inputs[2])
            if table is not None and table.ndim == 2:
                return int(table.shape[0])
            if node.op_type in _CARRIERS:
                pending += [found for found in node.outputs if found not in seen]
                seen.update(node.outputs)
    raise CheckpointError(
        f"{origin} has no table of token embeddings that its input_ids index. Pass the file of an "
        "encoder of texts such as BERT."
    )
