"""torch model → ONNX graph, by torch's dynamo exporter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch

from qdeploy.errors import CheckpointError
from qdeploy.exporter.quiet import quiet

# The first opset with Gelu as one operator, which keeps FFN blocks recognisable.
OPSET = 20
# Sizes that equal no other size of a model by accident, so that none is taken for a constant.
_BATCH, _SEQUENCE = 2, 11


def trace(model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> ir.Model:
    """Trace a model with dynamic batch and sequence.

    Args:
        model: transformers model, FP32, evaluation mode, eager attention.
        inputs: names of its int64 [B, S] inputs, in the order of the graph.
        outputs: names of its outputs.

    Returns:
        The graph as torch gives it, at opset 20; see `canonical.clean`.

    Raises:
        CheckpointError: torch cannot trace this architecture.
    """
    feeds = {name: _example(name, model.config) for name in inputs}
    dynamic = torch.export.Dim.DYNAMIC
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                model,
                (),
                kwargs=feeds,
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes={name: {0: dynamic, 1: dynamic} for name in inputs},
                input_names=list(inputs),
                output_names=list(outputs),
                verbose=False,
            )
    except Exception as error:  # the tracer raises whatever the model's code raises
        cause = error.__cause__ or error
        raise CheckpointError(
            f"torch {torch.__version__} cannot trace {type(model).__name__} to ONNX: "
            f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]} Tested architectures: "
            "BERT, DistilBERT, RoBERTa, ELECTRA, XLM-R, MPNet, DeBERTa-v2/v3, ModernBERT."
        ) from error
    assert program is not None  # None only with a file name, which is not given
    return program.model


def _example(name: str, config: Any) -> torch.Tensor:
    shape = (_BATCH, _SEQUENCE)
    if name == "token_type_ids":
        return torch.zeros(shape, dtype=torch.int64)
    if name == "attention_mask":
        return torch.ones(shape, dtype=torch.int64)
    # ids that are not the padding token, whose positions RoBERTa treats apart
    padding = getattr(config, "pad_token_id", None)
    return torch.full(shape, 5 if padding != 5 else 6, dtype=torch.int64)
