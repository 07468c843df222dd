"""Shapes of all tensors, by running the graph: as functions of batch and sequence.

Shape inference follows the operators that a file happens to have, and loses the thread where an
exporter computes a shape with twenty of them. Here the graph runs in ONNX Runtime at a few sizes,
and each dimension is the one function a + b·batch + c·sequence + d·batch·sequence that gives all
sizes that were seen. What no such function gives stays unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from qdeploy.errors import CheckpointError
from qdeploy.files.artifact import save_graph
from qdeploy.files.scratch import scratch
from qdeploy.types import Array

BATCH, SEQUENCE = "batch", "sequence"
# More than the four unknowns of a function, so that one is refuted where it does not hold.
POINTS = ((2, 7), (3, 7), (2, 11), (3, 13), (5, 11), (4, 8))
_REASON = 300  # characters of what a runtime says

# a, b, c, d of a + b·batch + c·sequence + d·batch·sequence
Size: TypeAlias = tuple[int, int, int, int]


@dataclass(frozen=True)
class Observed:
    """What the tensors of a graph were at `POINTS`.

    Attributes:
        shapes: of each tensor by name, its sizes; None where they follow no function.
        values: of int64 tensors with up to one dimension, by name: each number.
        types: element types.
    """

    shapes: Mapping[str, tuple[Size | None, ...]]
    values: Mapping[str, tuple[Size | None, ...]]
    types: Mapping[str, ir.DataType]


def observe(model: ir.Model, vocabulary: int, origin: str) -> Observed:
    """Run a graph with all tensors as outputs.

    Args:
        model: its inputs are [batch, sequence]; not changed.
        vocabulary: rows of the table of tokens.
        origin: of the graph, for the error.

    Raises:
        CheckpointError: it does not run at other sizes than its own.
    """
    names = [str(v.name) for node in model.graph for v in node.outputs if v.name]
    runs = run(_watching(model, names), [feeds(model, *at, vocabulary) for at in POINTS], origin)
    shapes: dict[str, tuple[Size | None, ...]] = {}
    values: dict[str, tuple[Size | None, ...]] = {}
    types: dict[str, ir.DataType] = {}
    for at, name in enumerate(names):
        arrays = [found[at] for found in runs]
        if not all(isinstance(array, np.ndarray) for array in arrays):
            continue  # a sequence, or an optional
        if len({array.ndim for array in arrays}) > 1:
            continue
        shapes[name] = tuple(fit(sizes) for sizes in zip(*(a.shape for a in arrays), strict=True))
        types[name] = ir.DataType.from_numpy(arrays[0].dtype)
        short = arrays[0].dtype == np.int64 and arrays[0].ndim <= 1
        if short and len({array.shape for array in arrays}) == 1:
            flat = zip(*(array.reshape(-1).tolist() for array in arrays), strict=True)
            values[name] = tuple(fit(numbers) for numbers in flat)
    return Observed(shapes, values, types)


def fit(numbers: Sequence[int]) -> Size | None:
    """The function of batch and sequence that gives these numbers at `POINTS`.

    >>> fit([batch * sequence for batch, sequence in POINTS])
    (0, 0, 0, 1)
    """
    terms = np.array([[1, b, s, b * s] for b, s in POINTS], np.float64)
    wanted = np.array(numbers, np.float64)
    found = np.rint(np.linalg.lstsq(terms, wanted, rcond=None)[0])
    if not np.array_equal(terms @ found, wanted):
        return None
    a, b, c, d = (int(factor) for factor in found)
    return a, b, c, d


def set_shapes(model: ir.Model, observed: Observed) -> None:
    """Write what was seen onto the values of a graph, in place."""
    for node in model.graph:
        for value in node.outputs:
            sizes = observed.shapes.get(str(value.name))
            value.shape = None if sizes is None else ir.Shape([_dimension(s) for s in sizes])
            if str(value.name) in observed.types:
                value.type = ir.TensorType(observed.types[str(value.name)])


def _dimension(size: Size | None) -> int | ir.SymbolicDim:
    if size is None:
        return ir.SymbolicDim(None)
    if size[1:] == (0, 0, 0):
        return size[0]
    words = ["1", BATCH, SEQUENCE, f"{BATCH}*{SEQUENCE}"]
    parts = [
        word if factor == 1 else str(factor) if word == "1" else f"{factor}*{word}"
        for factor, word in zip(size, words, strict=True)
        if factor
    ]
    return ir.SymbolicDim(" + ".join(reversed(parts)))


def feeds(model: ir.Model, batch: int, sequence: int, vocabulary: int) -> dict[str, Array]:
    """A batch whose last row is padded, in the types of a graph's inputs."""
    rng = np.random.default_rng(batch * 1000 + sequence)
    mask = np.ones((batch, sequence), np.int64)
    mask[-1, max(1, sequence - 2) :] = 0
    given = {
        "input_ids": rng.integers(min(5, vocabulary - 1), vocabulary, (batch, sequence)),
        "attention_mask": mask,
        "token_type_ids": np.zeros((batch, sequence), np.int64),
    }
    types = {str(value.name): value.dtype for value in model.graph.inputs}
    return {
        name: given.get(name, np.zeros((batch, sequence), np.int64)).astype(
            (dtype or ir.DataType.INT64).numpy()
        )
        for name, dtype in types.items()
    }


def run(model: ir.Model, batches: Sequence[Mapping[str, Array]], origin: str) -> list[list[Array]]:
    """All outputs of a graph as it is written, for each batch.

    Raises:
        CheckpointError: ONNX Runtime does not load or run it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with scratch("observe") as folder:
        path = folder / "model.onnx"
        save_graph(model, path, "model.onnx.data")
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            return [session.run(None, dict(batch)) for batch in batches]
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise CheckpointError(
                f"{origin} does not run on batches of other sizes: "
                f"{' '.join(str(error).split())[:_REASON]} Sizes of the batch it was exported "
                "with are fixed inside, or an operator is not known. Export the checkpoint again "
                "with dynamic axes for batch and sequence, or pass the checkpoint itself."
            ) from error


def _watching(model: ir.Model, names: Sequence[str]) -> ir.Model:
    watched = model.clone()
    values = ir.convenience.create_value_mapping(watched.graph, include_subgraphs=False)
    watched.graph.outputs.clear()
    watched.graph.outputs.extend(values[name] for name in names)
    for value in watched.graph.outputs:
        value.shape = None
    return watched
