"""A small encoder written node by node with onnx_ir: no torch, and every number is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from qdeploy.files.artifact import write_manifest
from tests import manifests

HIDDEN, INNER, HEADS = 16, 32, 2
VOCABULARY = 1100  # times 16: just enough numbers for an int8 table
LAYERS = 2
OUTLIER = 5  # channel with a large constant offset in every LayerNorm
MAX_LENGTH = 64

Dims = Sequence[int | str | ir.SymbolicDim]
TOKENS: Dims = ("batch", "sequence", HIDDEN)


class Writer:
    """Nodes and weights of a graph, with shapes, under the names that export gives."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[ir.Node] = []
        self.initializers: list[ir.Value] = []
        self.inputs: list[ir.Value] = []

    def input(self, name: str, shape: Dims, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
        self.inputs.append(value)
        return value

    def weight(self, name: str, array: Any) -> ir.Value:
        array = np.asarray(array)
        value = ir.Value(
            name=name,
            shape=ir.Shape(array.shape),
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            const_value=ir.tensor(array, name=name),
        )
        self.initializers.append(value)
        return value

    def op(
        self,
        kind: str,
        inputs: Sequence[ir.Value],
        shape: Dims,
        name: str,
        dtype: ir.DataType = ir.DataType.FLOAT,
        **attributes: Any,
    ) -> ir.Value:
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))
        node = ir.node(kind, inputs, attributes, outputs=[value], name=f"{name}/{kind}")
        self.nodes.append(node)
        return value

    def linear(self, x: ir.Value, module: str, k: int, n: int) -> ir.Value:
        """MatMul and Add of a bias."""
        assert x.shape is not None
        shape = [*list(x.shape)[:-1], n]
        weight = self.rng.normal(size=(k, n)) / np.sqrt(k)
        product = self.op(
            "MatMul",
            [x, self.weight(f"{module}.weight", weight.astype(np.float32))],
            shape,
            f"{module}.product",
        )
        bias = self.weight(f"{module}.bias", self.rng.normal(size=n).astype(np.float32) / 10)
        return self.op("Add", [product, bias], shape, f"{module}.out")

    def norm(self, x: ir.Value, module: str) -> ir.Value:
        """LayerNormalization whose offset is large in one channel."""
        bias = np.zeros(HIDDEN, np.float32)
        bias[OUTLIER] = 40
        inputs = [
            x,
            self.weight(f"{module}.weight", np.ones(HIDDEN, np.float32)),
            self.weight(f"{module}.bias", bias),
        ]
        return self.op("LayerNormalization", inputs, TOKENS, f"{module}.out", axis=-1)

    def model(self, *outputs: ir.Value) -> ir.Model:
        graph = ir.Graph(
            self.inputs,
            outputs,
            nodes=self.nodes,
            initializers=self.initializers,
            opset_imports={"": 20},
            name="encoder",
        )
        return ir.Model(graph, ir_version=10)


def encoder(seed: int = 0, layers: int = LAYERS) -> ir.Model:
    """BERT with hidden size 16, by default of 2 layers: logits from the first token."""
    w = Writer(seed)
    whole: Dims = ("batch", "sequence")
    ids = w.input("input_ids", whole, ir.DataType.INT64)
    mask = w.input("attention_mask", whole, ir.DataType.INT64)
    table = w.rng.normal(size=(VOCABULARY, HIDDEN)).astype(np.float32)
    x = w.op("Gather", [w.weight("embeddings.words.weight", table), ids], TOKENS, "words")
    x = w.norm(x, "embeddings.norm")
    bias = _attention_bias(w, mask)
    for layer in range(layers):
        x = _layer(w, x, bias, f"layer.{layer}")
    first = w.op("Gather", [x, w.weight("zero", np.int64(0))], ("batch", HIDDEN), "first", axis=1)
    head = w.weight("classifier.weight", w.rng.normal(size=(2, HIDDEN)).astype(np.float32))
    offset = w.weight("classifier.bias", np.zeros(2, np.float32))
    logits = w.op("Gemm", [first, head, offset], ("batch", 2), "logits", transB=1)
    return w.model(logits)


def _attention_bias(w: Writer, mask: ir.Value) -> ir.Value:
    """[B, 1, 1, S]: 0 for real tokens and −10000 for padding."""
    real = w.op("Cast", [mask], ("batch", "sequence"), "real", to=ir.DataType.FLOAT)
    one, much = w.weight("one", np.float32(1)), w.weight("much", np.float32(-1e4))
    padding = w.op("Sub", [one, real], ("batch", "sequence"), "padding")
    scaled = w.op("Mul", [padding, much], ("batch", "sequence"), "scaled")
    axes = w.weight("axes", np.array([1, 2]))
    return w.op("Unsqueeze", [scaled, axes], ("batch", 1, 1, "sequence"), "bias")


def _layer(w: Writer, x: ir.Value, bias: ir.Value, name: str) -> ir.Value:
    query, key, value = (
        _split(w, w.linear(x, f"{name}.{part}", HIDDEN, HIDDEN), f"{name}.{part}", part == "key")
        for part in ("query", "key", "value")
    )
    square: Dims = ("batch", HEADS, "sequence", "sequence")
    scores = w.op("MatMul", [query, key], square, f"{name}.scores")
    masked = w.op("Add", [scores, bias], square, f"{name}.masked")
    shares = w.op("Softmax", [masked], square, f"{name}.shares", axis=-1)
    split: Dims = ("batch", HEADS, "sequence", HIDDEN // HEADS)
    mixed = w.op("MatMul", [shares, value], split, f"{name}.mixed")
    swapped = w.op(
        "Transpose",
        [mixed],
        ("batch", "sequence", HEADS, HIDDEN // HEADS),
        f"{name}.swapped",
        perm=[0, 2, 1, 3],
    )
    whole = w.weight(f"{name}.whole", np.array([0, 0, HIDDEN]))
    joined = w.op("Reshape", [swapped, whole], TOKENS, f"{name}.joined")
    attended = w.linear(joined, f"{name}.attended", HIDDEN, HIDDEN)
    x = w.norm(w.op("Add", [x, attended], TOKENS, f"{name}.sum1"), f"{name}.norm1")
    inner = w.linear(x, f"{name}.up", HIDDEN, INNER)
    active = w.op("Gelu", [inner], ("batch", "sequence", INNER), f"{name}.gelu")
    down = w.linear(active, f"{name}.down", INNER, HIDDEN)
    return w.norm(w.op("Add", [x, down], TOKENS, f"{name}.sum2"), f"{name}.norm2")


def _split(w: Writer, x: ir.Value, name: str, transposed: bool) -> ir.Value:
    """[B, S, H] → [B, heads, S, d], keys as [B, heads, d, S]."""
    size = HIDDEN // HEADS
    shape = w.weight(f"{name}.shape", np.array([0, 0, HEADS, size]))
    split = w.op("Reshape", [x, shape], ("batch", "sequence", HEADS, size), f"{name}.split")
    order = [0, 2, 3, 1] if transposed else [0, 2, 1, 3]
    dims: Dims = ("batch", HEADS, size, "sequence") if transposed else (
        "batch", HEADS, "sequence", size,
    )  # fmt: skip
    return w.op("Transpose", [split], dims, f"{name}.heads", perm=order)


def feeds(rows: int, length: int, *, pad_to: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Random tokens; `pad_to` appends padding that the mask hides."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(4, VOCABULARY, (rows, length))
    mask = np.ones_like(ids)
    width = ((0, 0), (0, (pad_to or length) - length))
    return {"input_ids": np.pad(ids, width), "attention_mask": np.pad(mask, width)}


def model_directory(path: Path, model: ir.Model | None = None) -> Path:
    """A model directory as export writes it, around `model` (default: `encoder()`)."""
    from tests.tiny import _frame, _wordpiece

    path.mkdir()
    ir.save(model or encoder(), path / "model.onnx")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = _wordpiece(special, "[UNK]")
    _frame(tokenizer, double=False, roberta_like=False)
    tokenizer.save(str(path / "tokenizer.json"))
    sign(path)
    return path


def sign(path: Path) -> None:
    """Write the manifest for the files as they are now."""
    fields = manifests.fields("model", hidden_size=HIDDEN, max_length=MAX_LENGTH)
    write_manifest(path, "model", fields)
