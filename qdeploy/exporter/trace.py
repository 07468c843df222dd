"""torch model → ONNX graph, by torch's dynamo exporter."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass

from qdeploy.errors import CheckpointError
from qdeploy.exporter.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

# The first opset with Gelu as one operator, which keeps FFN blocks recognisable.
OPSET = 20
# Sizes that equal no other size of a model by accident, so that none is taken for a constant.
_BATCH, _SEQUENCE = 2, 11
# Families that the tests export, for the text of a refusal.
TESTED = (
    "ALBERT",
    "BERT",
    "BigBird",
    "CamemBERT",
    "ConvBERT",
    "Data2Vec",
    "DeBERTa v1 to v3",
    "DistilBERT",
    "ELECTRA",
    "ERNIE",
    "EuroBERT",
    "LayoutLM",
    "MobileBERT",
    "ModernBERT",
    "MPNet",
    "RemBERT",
    "RoBERTa",
    "RoFormer",
    "SqueezeBERT",
    "XLM-R",
)


def check_runs(
    model: PreTrainedModel, inputs: Sequence[str], outputs: Sequence[str], *, longest: int
) -> None:
    """Run the model in torch on a small batch: what fails there is no fault of a graph.

    Args:
        model: transformers model, FP32, evaluation mode, eager attention.
        inputs: names of its int64 [B, S] inputs.
        outputs: names of its outputs.
        longest: tokens that the model takes.

    Raises:
        CheckpointError: it does not run, or gives other outputs.
    """
    feeds = _examples(model, inputs, longest)
    kind = type(model).__name__
    try:
        with quiet(), torch.no_grad():
            found = model(**feeds)
            given = {name: getattr(found, name, None) for name in outputs}
    except Exception as error:  # whatever the model's code raises
        raise CheckpointError(
            f"{kind} does not run in torch on {', '.join(inputs)} of shape "
            f"{list(feeds[inputs[0]].shape)}, with the settings of its config.json: "
            f"{_cause(error)} Correct config.json, or save the model again with "
            "`model.save_pretrained(...)`."
        ) from error
    for name, value in given.items():
        if not isinstance(value, torch.Tensor) or value.shape[:1] != (_BATCH,):
            raise CheckpointError(
                f"{kind} gives no {name} with a row for each text, which its task needs. Pass "
                "another --task, or a checkpoint of another architecture."
            )


def trace(
    model: PreTrainedModel,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    longest: int = _SEQUENCE,
) -> ir.Model:
    """Trace a model with dynamic batch and sequence.

    Args:
        model: transformers model, FP32, evaluation mode, eager attention.
        inputs: names of its int64 [B, S] inputs, in the order of the graph.
        outputs: names of its outputs.
        longest: tokens that the model takes.

    Returns:
        The graph as torch gives it, at opset 20, with these outputs alone; see `canonical.clean`.

    Raises:
        CheckpointError: torch cannot trace this architecture, or its graph ignores the mask.
    """
    feeds = _examples(model, inputs, longest)
    dynamic = torch.export.Dim.DYNAMIC
    try:
        with quiet(), torch.no_grad(), _held_back():
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
        raise CheckpointError(
            f"torch {torch.__version__} cannot trace {type(model).__name__} to ONNX: "
            f"{_cause(error.__cause__ or error)} Fine-tune an encoder of another architecture; "
            f"{len(TESTED)} families are tested: {', '.join(TESTED)}."
        ) from error
    assert program is not None  # None only with a file name, which is not given
    graph = program.model.graph
    del graph.outputs[len(outputs) :]
    RemoveUnusedNodesPass()(program.model)
    if any(value.name == "attention_mask" and not value.uses() for value in graph.inputs):
        raise CheckpointError(
            f"{type(model).__name__} does not read its attention_mask with the settings of its "
            "config.json, so that the logits of a row depend on how far it is padded. Fine-tune "
            "an encoder such as BERT, RoBERTa, DeBERTa or ModernBERT."
        )
    return program.model


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """What torch prints of a failed trace is a program of thousands of lines."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _cause(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    text = f"{type(error).__name__}: {text}"
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _examples(
    model: PreTrainedModel, inputs: Sequence[str], longest: int
) -> dict[str, torch.Tensor]:
    shape = (_BATCH, max(1, min(_SEQUENCE, longest)))
    return {name: _example(name, model.config, shape) for name in inputs}


def _example(name: str, config: PreTrainedConfig, shape: tuple[int, int]) -> torch.Tensor:
    if name == "token_type_ids":
        return torch.zeros(shape, dtype=torch.int64)
    if name == "attention_mask":
        return torch.ones(shape, dtype=torch.int64)
    # ids that are not the padding token, whose positions RoBERTa treats apart
    padding = getattr(config, "pad_token_id", None)
    return torch.full(shape, 5 if padding != 5 else 6, dtype=torch.int64)
