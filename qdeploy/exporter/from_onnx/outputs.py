"""Outputs under their canonical names, and the task that they say where config.json does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from qdeploy.errors import CheckpointError
from qdeploy.exporter.from_onnx.observe import Observed, Size
from qdeploy.head import EMBEDDINGS, SEQUENCES, SPANS, TOKENS

TOKEN_VECTORS, ROW_VECTORS = "token_embeddings", "sentence_embedding"
_TOKEN_NAMES = (TOKEN_VECTORS, "last_hidden_state")
_ROWS: Size = (0, 1, 0, 0)
_PLACES: Size = (0, 0, 1, 0)


@dataclass(frozen=True)
class Output:
    """One output of a file.

    Attributes:
        name: in the file.
        axes: "BC" of classes or a vector for each row, "BSC" of each token, "BS" a logit of each
            token; "" of anything else.
        size: of the last axis, where it is fixed.
    """

    name: str
    axes: str
    size: int


def outputs_of(model: ir.Model, observed: Observed) -> list[Output]:
    """All outputs of a graph, with their shapes."""
    found = []
    for value in model.graph.outputs:
        sizes = observed.shapes.get(str(value.name), ())
        found.append(Output(str(value.name), *_form(sizes)))
    return found


def _form(sizes: Sequence[Size | None]) -> tuple[str, int]:
    last = sizes[-1] if sizes else None
    fixed = last is not None and last[1:] == (0, 0, 0)
    size = last[0] if last is not None and fixed else 0
    if len(sizes) == 2 and sizes[0] == _ROWS:
        return ("BC", size) if fixed else ("BS", 0) if last == _PLACES else ("", 0)
    if len(sizes) == 3 and tuple(sizes[:2]) == (_ROWS, _PLACES) and fixed:
        return "BSC", size
    return "", 0


def task_by_outputs(outputs: Sequence[Output]) -> str | None:
    """What a head is for, by its outputs; None where they do not say."""
    names = [output.name for output in outputs]
    axes = [output.axes for output in outputs]
    if ROW_VECTORS in names:
        return EMBEDDINGS
    if axes.count("BS") == 2 or {"start_logits", "end_logits"} <= set(names):
        return SPANS
    if len(outputs) == 1 or "logits" in names:
        logits = next((o for o in outputs if o.name == "logits"), outputs[0])
        if logits.axes == "BC":
            return SEQUENCES
        if logits.axes == "BSC" and logits.name == "logits":
            return TOKENS
    return None


def chosen(outputs: Sequence[Output], task: str, origin: str, *, pools: bool) -> dict[str, str]:
    """Which output of the file is which: canonical name → name in the file.

    Args:
        pools: pooling is known from elsewhere, so that vectors of tokens are enough.

    Raises:
        CheckpointError: an output is missing, or which one it is is not known.
    """
    by_name = {output.name: output for output in outputs}
    found: dict[str, str] = {}
    if task == EMBEDDINGS:
        tokens = [name for name in _TOKEN_NAMES if name in by_name]
        tokens += [o.name for o in outputs if o.axes == "BSC"]
        if tokens:
            found[TOKEN_VECTORS] = tokens[0]
        if ROW_VECTORS in by_name and not pools:
            found[ROW_VECTORS] = ROW_VECTORS
        complete = TOKEN_VECTORS in found and (pools or ROW_VECTORS in found)
    elif task == SPANS:
        spans = [o.name for o in outputs if o.axes == "BS"]
        named = [name for name in ("start_logits", "end_logits") if name in by_name]
        pair = named if len(named) == 2 else spans
        found = dict(zip(("start_logits", "end_logits"), pair, strict=False))
        complete = len(pair) == 2
    else:
        wanted = "BC" if task == SEQUENCES else "BSC"
        logits = [o.name for o in outputs if o.axes == wanted]
        logits = ["logits"] if "logits" in logits else logits
        complete = len(logits) == 1
        found = {"logits": logits[0]} if complete else {}
    if not complete:
        listed = ", ".join(f"{o.name} [{', '.join(o.axes)}]" for o in outputs)
        raise CheckpointError(
            f"{origin} gives {listed or 'nothing'}, and the outputs of a head for {task} are not "
            "among them. Pass another --task, or the file that was exported with its head."
        )
    return found


def set_outputs(model: ir.Model, names: Mapping[str, str]) -> None:
    """Keep these outputs alone, under their canonical names, in place."""
    by_name = {str(value.name): value for value in model.graph.outputs}
    values = ir.convenience.create_value_mapping(model.graph)
    model.graph.outputs.clear()
    for canonical, name in names.items():
        value = by_name[name]
        taken = values.get(canonical)
        if taken is not None and taken is not value:
            taken.name = f"{canonical}_inner"
        value.name = canonical
        model.graph.outputs.append(value)
