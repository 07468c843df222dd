"""What stands behind the encoder of an embedding model, as operators of the graph.

The same parts as `qdeploy.exporter.sentence` has in torch; formulas are those of
sentence-transformers. `embed` computes them in numpy, which the graph is held against.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from qdeploy.errors import CheckpointError
from qdeploy.exporter.from_onnx.edit import Edit
from qdeploy.exporter.from_onnx.outputs import ROW_VECTORS, TOKEN_VECTORS
from qdeploy.exporter.sentence_parts import Dense, LayerNorm, Part, SentenceParts, weight_file
from qdeploy.types import Array

_LEAST_COUNT = 1e-9  # of tokens: a row of padding alone is no NaN
_LEAST_LENGTH = 1e-12  # of a vector, as in torch.nn.functional.normalize
_EPSILON = 1e-5  # of torch.nn.LayerNorm
_ERF = np.vectorize(math.erf, otypes=[np.float64])
# Activation functions of torch.nn → the operator, and the same in numpy.
_ACTIVATIONS: Mapping[str, tuple[str, Callable[[Array], Array]]] = {
    "Tanh": ("Tanh", np.tanh),
    "ReLU": ("Relu", lambda x: np.maximum(x, 0)),
    "Sigmoid": ("Sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    "GELU": ("Gelu", lambda x: 0.5 * x * (1 + _ERF(x / math.sqrt(2)))),
    "Identity": ("", lambda x: x),
}
_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


def add_parts(model: ir.Model, parts: SentenceParts) -> None:
    """Add `sentence_embedding` behind `token_embeddings`, in place.

    1. Assumes an input `attention_mask` and an output `token_embeddings`.
    2. Recognizes pooling, Dense, LayerNorm and Normalize of sentence-transformers.
    3. Guarantees their formulas in FP32.
    4. Leaves the encoder as it is.

    Raises:
        CheckpointError: weights that cannot be read, or an unknown activation function.
    """
    graph = model.graph
    tokens = next(value for value in graph.outputs if value.name == TOKEN_VECTORS)
    mask = next(value for value in graph.inputs if value.name == "attention_mask")
    edit = Edit(model)
    build = _Build(edit)
    vectors = [build.pooled(mode, tokens, mask) for mode in parts.pooling]
    found = vectors[0]
    if len(vectors) > 1:
        found = edit.add("Concat", vectors, name="parts.0/Concat", axis=-1)
    for at, part in enumerate(parts.parts[1:], 1):
        found = build.part(part, found, f"parts.{at}")
    found.name, found.type = ROW_VECTORS, ir.TensorType(ir.DataType.FLOAT)
    graph.outputs.insert(0, found)
    edit.finish()


class _Build:
    def __init__(self, edit: Edit) -> None:
        self._edit = edit

    def _add(self, kind: str, *inputs: ir.Value, **attributes: int) -> ir.Value:
        return self._edit.add(kind, inputs, None, name=f"parts.0/{kind}", **attributes)

    def _number(self, number: float) -> ir.Value:
        return self._edit.constant("parts/number", np.array(number, np.float32))

    def _axes(self, axis: int) -> ir.Value:
        return self._edit.integers("parts/axes", [axis])

    def pooled(self, mode: str, tokens: ir.Value, mask: ir.Value) -> ir.Value:
        """[B, H] of [B, S, H]."""
        if mode == "cls":
            first = self._edit.constant("parts/first", np.array(0, np.int64))
            return self._add("Gather", tokens, first, axis=1)
        kept = self._add("Cast", mask, to=ir.DataType.FLOAT.value)
        if mode == "max":
            return self._largest(tokens, kept)
        if mode in ("weightedmean", "lasttoken"):
            kept = self._weighted(mode, mask, kept)
        kept = self._add("Unsqueeze", kept, self._axes(2))
        total = self._add("ReduceSum", self._add("Mul", tokens, kept), self._axes(1), keepdims=0)
        if mode == "lasttoken":
            return total
        count = self._add("ReduceSum", kept, self._axes(1), keepdims=0)
        count = self._add("Max", count, self._number(_LEAST_COUNT))
        if mode == "mean_sqrt_len_tokens":
            count = self._add("Sqrt", count)
        return self._add("Div", total, count)

    def _weighted(self, mode: str, mask: ir.Value, kept: ir.Value) -> ir.Value:
        """FP32 [B, S]: 1, 2, … of real tokens; or 1 of the last one."""
        zero, one = (self._edit.constant("parts/number", np.array(n, np.int64)) for n in (0, 1))
        size = self._add("Squeeze", self._add("Shape", mask, start=1, end=2))
        if mode == "weightedmean":
            stop = self._add("Add", size, one)
            places = self._add("Cast", self._add("Range", one, stop, one), to=1)
            return self._add("Mul", kept, places)
        places = self._add("Range", zero, size, one)
        last = self._add("ReduceMax", self._add("Mul", mask, places), self._axes(1), keepdims=1)
        return self._add("Cast", self._add("Equal", places, last), to=1)

    def _largest(self, tokens: ir.Value, kept: ir.Value) -> ir.Value:
        real = self._add("Cast", kept, to=ir.DataType.BOOL.value)
        real = self._add("Unsqueeze", real, self._axes(2))
        hidden = self._add("Where", real, tokens, self._number(float(np.finfo(np.float32).min)))
        found = self._add("ReduceMax", hidden, self._axes(1), keepdims=0)
        any_real = self._add("ReduceMax", kept, self._axes(1), keepdims=1)
        return self._add("Mul", found, any_real)

    def part(self, part: Part, found: ir.Value, name: str) -> ir.Value:
        """[B, D] behind one part."""
        edit = self._edit
        if isinstance(part, Dense):
            weights = weights_of(part.folder)
            read = [found, edit.constant(f"{name}.linear.weight", weights["linear.weight"])]
            if part.bias:
                read.append(edit.constant(f"{name}.linear.bias", weights["linear.bias"]))
            found = edit.add("Gemm", read, name=f"{name}.linear/Gemm", transB=1)
            kind, _ = _activation(part)
            return edit.add(kind, [found], name=f"{name}/{kind}") if kind else found
        if isinstance(part, LayerNorm):
            weights = weights_of(part.folder)
            read = [
                edit.constant(f"{name}.norm.{word}", weights[f"norm.{word}"])
                for word in ("weight", "bias")
            ]
            return edit.add(
                "LayerNormalization",
                [found, *read],
                axis=-1,
                epsilon=_EPSILON,
                name=f"{name}.norm/LayerNormalization",
            )
        length = self._add("ReduceL2", found, self._axes(1), keepdims=1)
        return self._add("Div", found, self._add("Max", length, self._number(_LEAST_LENGTH)))


def embed(tokens: Array, mask: Array, parts: SentenceParts) -> Array:
    """`sentence_embedding` [B, D] of `token_embeddings` [B, S, H] and a mask [B, S], in FP64."""
    tokens = tokens.astype(np.float64)
    found = np.concatenate([pool(mode, tokens, mask) for mode in parts.pooling], axis=-1)
    for part in parts.parts[1:]:
        if isinstance(part, Dense):
            weights = weights_of(part.folder)
            found = found @ weights["linear.weight"].T.astype(np.float64)
            found = found + (weights["linear.bias"] if part.bias else 0)
            found = _activation(part)[1](found)
        elif isinstance(part, LayerNorm):
            weights = weights_of(part.folder)
            centred = found - found.mean(-1, keepdims=True)
            found = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + _EPSILON)
            found = found * weights["norm.weight"] + weights["norm.bias"]
        else:
            length = np.linalg.norm(found, axis=-1, keepdims=True)
            found = found / np.maximum(length, _LEAST_LENGTH)
    return found


def pool(mode: str, tokens: Array, mask: Array) -> Array:
    """[B, H] of FP64 [B, S, H], one of the modes of sentence-transformers."""
    kept = mask[..., None].astype(np.float64)
    if mode == "cls":
        return tokens[:, 0]
    if mode == "max":
        return np.where(kept > 0, tokens, -np.inf).max(1)
    if mode == "lasttoken":
        last = (mask * np.arange(mask.shape[1])).max(1)
        return tokens[np.arange(len(tokens)), last]
    if mode == "weightedmean":
        kept = kept * np.arange(1, mask.shape[1] + 1)[None, :, None]
    count = np.maximum(kept.sum(1), _LEAST_COUNT)
    found: Array = (tokens * kept).sum(1) / (np.sqrt(count) if "sqrt" in mode else count)
    return found


def pooling_of(tokens: Array, vectors: Array, mask: Array) -> tuple[tuple[str, ...], bool] | None:
    """Which pooling gives these vectors, and whether they have length 1; None where none does."""
    for mode in _MODES:
        found = pool(mode, tokens.astype(np.float64), mask)
        if found.shape != vectors.shape:
            return None
        length = np.linalg.norm(found, axis=-1, keepdims=True)
        for normalized, wanted in ((False, found), (True, found / length)):
            if np.abs(vectors - wanted).max() <= 1e-4 * max(1e-3, np.abs(wanted).max()):
                return (mode,), normalized
    return None


def _activation(part: Dense) -> tuple[str, Callable[[Array], Array]]:
    name = part.activation.rpartition(".")[2]
    if name not in _ACTIVATIONS or not part.activation.startswith("torch.nn."):
        raise CheckpointError(
            f"{part.folder / 'config.json'} names the activation function {part.activation}, and "
            f"behind an ONNX file {', '.join(_ACTIVATIONS)} of torch.nn are known. Pass the "
            "checkpoint with its weights instead."
        )
    return _ACTIVATIONS[name]


def weights_of(folder: Path) -> dict[str, Array]:
    """The weights of a part in FP32, by name.

    Raises:
        CheckpointError: they cannot be read, or are of other names.
    """
    path = weight_file(folder)
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return {name: np.asarray(a, np.float32) for name, a in load_file(path).items()}
        import torch

        loaded = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value.float().numpy() for name, value in loaded.items()}
    except Exception as error:  # safetensors, pickle and torch each raise their own
        raise CheckpointError(
            f"The weights of {path} cannot be read: {' '.join(str(error).split())[:300]} Save the "
            "model again with `SentenceTransformer(...).save(...)`."
        ) from error
