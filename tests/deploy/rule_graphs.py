"""Small graphs that break one rule of TensorRT's each, or keep all, and what becomes of them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir

from qdeploy.deploy.targets.tensorrt import inspector
from qdeploy.deploy.targets.tensorrt.api import RTX
from qdeploy.deploy.targets.tensorrt.builder import Settings, Shape, build_plan
from qdeploy.deploy.targets.tensorrt.dump import layers_json
from qdeploy.errors import ModelError, TargetError
from tests.deploy.toys import Toy, saved

K, N, HEAD = 32, 16, 16
SCALE, ZERO = np.float32(0.1), np.int8(0)
HALF, INT8, INT64 = ir.DataType.FLOAT16, ir.DataType.INT8, ir.DataType.INT64
E4M3, INT4 = ml_dtypes.float8_e4m3fn, ml_dtypes.int4
FP8_PAIR = {"zero": E4M3(0)}
ROWS, TOKENS = (1, 8, 32), (2, 128, 512)  # least, usual and largest


half = np.float16


class Outcome(enum.Enum):
    """What the compiler does with a graph."""

    PARSER = "the parser refuses it"
    BUILDER = "the builder refuses it"
    FLOAT = "its product is multiplied in float"
    INT8 = "its product is INT8"
    FP8 = "its product is FP8"
    BUILDS = "it builds, and has no product"


def compiled(model: ir.Model, folder: Path, capability: str = "8.6") -> tuple[Outcome, str]:
    """What becomes of the product named "gemm", and the compiler's words or the layer."""
    shapes = _profile(model)
    settings = Settings(shapes=shapes, capabilities=(capability,))
    try:
        built = build_plan(saved(model, folder / "model.onnx"), settings, RTX)
    except ModelError as error:
        return Outcome.PARSER, str(error)
    except TargetError as error:
        return Outcome.BUILDER, str(error)
    found = [x for x in inspector.layers(layers_json(built.dump, "T")) if "gemm" in x.nodes]
    products = [layer for layer in found if layer.multiplies]
    if not products:
        return (Outcome.FLOAT if found else Outcome.BUILDS), ""
    text = "; ".join(f"{x.kind} {x.tactic} {x.inputs} {x.weights}" for x in products)
    for outcome, right in (
        (Outcome.INT8, [layer.int8 for layer in products]),
        (Outcome.FP8, [layer.fp8 for layer in products]),
    ):
        if all(right):
            return outcome, text
    return Outcome.FLOAT, text


def _profile(model: ir.Model) -> dict[str, tuple[Shape, Shape, Shape]]:
    """Least, usual and largest shape of each input that has a free axis."""
    found = {}
    for value in model.graph.inputs:
        assert value.shape is not None
        dims = list(value.shape)
        least, usual, most = (
            tuple(d if isinstance(d, int) else free[at > 0] for at, d in enumerate(dims))
            for free in zip(ROWS, TOKENS, strict=True)
        )
        if least != most:
            found[str(value.name)] = (least, usual, most)
    return found


class Graph(Toy):
    """A toy with the parts of quantized products."""

    def __init__(self, shape: tuple[int | str, ...] = ("b", "s", K), opset: int = 21) -> None:
        super().__init__(shape, opset)
        self._count = 0

    def numbers(self, *values: Any) -> ir.Value:
        """An int64 constant [n]."""
        self._count += 1
        return self.constant(f"numbers{self._count}", np.array(values))

    def ones(self, *shape: int, kind: Any = np.float32, name: str = "ones") -> ir.Value:
        """A constant that no pair stands behind."""
        return self.constant(name, np.ones(shape, kind))

    def pair(
        self, value: ir.Value | None = None, name: str = "x", scale: Any = SCALE, zero: Any = ZERO
    ) -> ir.Value:
        """Q/DQ of an activation; of `x` when none is named."""
        return self.dequantized(self.x if value is None else value, name, scale, zero)

    def weight(
        self,
        name: str = "w",
        shape: tuple[int, ...] = (K, N),
        *,
        scale: Any = None,
        axis: int = 1,
        kind: Any = np.int8,
    ) -> ir.Value:
        """A constant of codes behind DequantizeLinear."""
        scale = np.full(shape[axis], 0.1, np.float32) if scale is None else scale
        stored = self.constant(name, np.ones(shape, kind))
        pair = self.constant(f"{name}.scale", scale)
        assert pair.dtype is not None
        inputs = (stored, pair)
        return self.op("DequantizeLinear", *inputs, name=f"dq_{name}", axis=axis, dtype=pair.dtype)

    def blocks(self, kind: Any) -> ir.Value:
        """A weight [K, N] with a scale for each 16 rows."""
        stored = self.constant("w", np.ones((K, N), kind))
        scale = self.constant("scale", np.full((K // 16, N), 0.1, np.float32))
        return self.op("DequantizeLinear", stored, scale, axis=0, block_size=16)

    def product(self, x: ir.Value, weight: ir.Value, n: int = N, name: str = "gemm") -> ir.Value:
        """MatMul of the type of its input."""
        assert x.dtype is not None
        return self.op("MatMul", x, weight, name=name, channels=n, dtype=x.dtype)

    def quantized(self, weight: ir.Value, n: int = N) -> ir.Value:
        """The product of `x` behind a pair."""
        return self.product(self.pair(), weight, n)

    def heads(self, value: ir.Value) -> ir.Value:
        """[b, s, n · HEAD] as [b, n, s, HEAD]."""
        viewed = self.op("Reshape", value, self.numbers(0, 0, -1, HEAD))
        return self.op("Transpose", viewed, perm=[0, 2, 1, 3])

    def parts(self, value: ir.Value, count: int = 3, axis: int = 2) -> Sequence[ir.Value]:
        """A tensor cut by Split into equal parts."""
        first = self.op("Split", value, axis=axis, outputs=count, num_outputs=count)
        node = first.producer()
        assert node is not None
        return node.outputs

    def attention(self, query: ir.Value, key: ir.Value, value: ir.Value) -> ir.Value:
        """Of heads; without a scale or mask."""
        turned = self.op("Transpose", key, perm=[0, 1, 3, 2])
        return self.op("MatMul", self.op("Softmax", self.op("MatMul", query, turned)), value)

    def joined(self, **weight: Any) -> ir.Value:
        """One product for query, key and value."""
        return self.quantized(self.weight(shape=(K, 3 * K), **weight), 3 * K)


Made = Callable[[Graph], ir.Value]


def toy(make: Made, shape: tuple[int | str, ...] = ("b", "s", K), opset: int = 21) -> ir.Model:
    """The graph that a function makes."""
    graph = Graph(shape, opset)
    return graph.model(make(graph))


def codes(g: Graph) -> ir.Value:
    pair = g.constant("scale", SCALE), g.constant("zero", ZERO)
    return g.op("QuantizeLinear", g.x, *pair, channels=K, dtype=INT8)


def scale_of_the_run(g: Graph) -> ir.Value:
    scale, zero = g.op("ReduceMax", g.x, keepdims=0), g.constant("zero", ZERO)
    q = g.op("QuantizeLinear", g.x, scale, zero, channels=K, dtype=INT8)
    return g.product(g.op("DequantizeLinear", q, scale, zero, channels=K), g.weight())


def gemm_with_bias(kind: Any, operator: str = "Gemm") -> Made:
    def make(g: Graph) -> ir.Value:
        stored = g.constant("bias", np.ones(N, kind))
        scale = g.constant("bias.scale", np.full(N, 0.01, np.float32))
        bias = g.op("DequantizeLinear", stored, scale, axis=0)
        if operator == "Add":
            return g.op("Add", g.product(g.pair(), g.weight()), bias, channels=N)
        return g.op("Gemm", g.pair(), g.weight(), bias, name="gemm", channels=N)

    return make


def two_types(operator: str) -> Made:
    def make(g: Graph) -> ir.Value:
        if operator == "RMSNormalization":
            return g.op(operator, g.x, g.constant("scale", np.ones(K, half)), channels=K)
        return g.op(operator, g.x, g.op("Cast", g.x, to=10, channels=K, dtype=HALF), channels=K)

    return make


def norm(second: str) -> Made:
    def make(g: Graph) -> ir.Value:
        y = g.op("LayerNormalization", g.x, g.constant("scale", np.ones(K, np.float32)), outputs=2)
        node = y.producer()
        assert node is not None
        node.outputs[1].name, node.outputs[1].type = second, y.type
        return y

    return make


def cast_between(activation: Any, weight: Any) -> Made:
    """Scales of two types, and a Cast behind the activation's pair."""

    def make(g: Graph) -> ir.Value:
        types = {np.float32: (1, ir.DataType.FLOAT), half: (10, HALF)}
        (to_x, x_type), (to_w, w_type) = types[activation], types[weight]
        x = g.op("Cast", g.x, to=to_x, channels=K, dtype=x_type)
        x = g.op("Cast", g.pair(x, scale=activation(0.1)), to=to_w, channels=K, dtype=w_type)
        return g.product(x, g.weight(scale=np.full(N, 0.1, weight)))

    return make


def joined_tensors(second: float) -> Made:
    def make(g: Graph) -> ir.Value:
        both = g.op("Concat", g.pair(), g.pair(name="x2", scale=np.float32(second)), axis=2)
        return g.product(both, g.weight(shape=(2 * K, N)))

    return make


def gather_of(axis: int, count: int) -> Made:
    def make(g: Graph) -> ir.Value:
        order = g.constant("order", np.arange(count)[::-1].copy())
        return g.product(g.pair(), g.op("Gather", g.weight(), order, axis=axis))

    return make


def cut_by_split(g: Graph, **weight: Any) -> ir.Value:
    return g.attention(*(g.heads(part) for part in g.parts(g.joined(**weight))))


def cut_by_slice(g: Graph) -> ir.Value:
    bias = g.constant("bias", np.arange(3 * K, dtype=np.float32))
    y = g.op("Add", g.joined(), bias, channels=3 * K)
    ends = [(K * i, K * i + K) for i in range(3)]
    cuts = (g.op("Slice", y, g.numbers(a), g.numbers(b), g.numbers(2)) for a, b in ends)
    return g.attention(*map(g.heads, cuts))


def reshaped_then(operator: str) -> Made:
    """[b, s, 3, heads, d], cut along the third axis: ModernBERT's form."""

    def make(g: Graph) -> ir.Value:
        y = g.op("Reshape", g.joined(), g.numbers(0, 0, 3, -1, 16))
        if operator == "Gather":
            turned = g.op("Transpose", y, perm=[2, 0, 3, 1, 4])
            places = [g.constant(f"at{i}", np.array(i)) for i in range(3)]
            return g.attention(*(g.op("Gather", turned, at, axis=0) for at in places))
        if operator == "Split":
            cuts = list(g.parts(y))
        else:
            ends = [(g.numbers(i), g.numbers(i + 1)) for i in range(3)]
            cuts = [g.op("Slice", y, *pair, g.numbers(2)) for pair in ends]
        flat = (g.op("Squeeze", cut, g.numbers(2)) for cut in cuts)
        return g.attention(*(g.op("Transpose", part, perm=[0, 2, 1, 3]) for part in flat))

    return make


def scores(both: bool) -> Made:
    def make(g: Graph) -> ir.Value:
        key = g.op("Transpose", g.x, perm=[0, 2, 1])
        key = g.pair(key, "k") if both else key
        return g.op("MatMul", g.pair(), key, name="gemm")

    return make


def turned(axis: int, size: int) -> Made:
    scale = np.full(size, 0.1, np.float32)

    def make(g: Graph) -> ir.Value:
        weight = g.weight(shape=(N, K), axis=axis, scale=scale)
        return g.op("Gemm", g.pair(), weight, name="gemm", channels=N, transB=1)

    return make


def three_products(g: Graph) -> ir.Value:
    """Query, key and value read one pair, and have columns of their own."""
    x = g.pair()
    each = (
        g.product(x, g.weight(f"w{i}", (K, K)), K, "gemm" if not i else f"g{i}") for i in range(3)
    )
    return g.attention(*map(g.heads, each))


def two_of_one_pair(g: Graph) -> ir.Value:
    x = g.pair()
    return g.op(
        "Add", g.product(x, g.weight()), g.product(x, g.weight("w2"), name="other"), channels=N
    )


def float_stored(g: Graph, n: int, name: str = "w") -> ir.Value:
    """A weight [K, n] that is stored in float, behind QuantizeLinear and DequantizeLinear."""
    scale = g.constant(f"{name}.scale", np.full(n, 0.1, np.float32))
    pair = scale, g.constant(f"{name}.zero", np.zeros(n, np.int8))
    codes = g.op("QuantizeLinear", g.ones(K, n, name=name), *pair, axis=1, dtype=INT8)
    return g.op("DequantizeLinear", codes, *pair, axis=1)


def float_stored_heads(g: Graph) -> ir.Value:
    """One product for query, key and value, whose weight is stored in float."""
    product = g.quantized(float_stored(g, 3 * K), 3 * K)
    return g.attention(*map(g.heads, g.parts(product)))


def keys_and_values(g: Graph) -> ir.Value:
    """One product for two parts: it is not moved behind the cut."""
    both = g.quantized(g.weight(shape=(K, 2 * K)), 2 * K)
    return g.attention(g.heads(g.x), *map(g.heads, g.parts(both, 2)))


def turned_codes(g: Graph) -> ir.Value:
    """A weight that is turned before DequantizeLinear."""
    codes = g.op("Transpose", g.ones(N, K, kind=np.int8), perm=[1, 0], dtype=INT8)
    return g.quantized(g.op("DequantizeLinear", codes, g.constant("scale", SCALE)))


def moved(operator: str, *numbers: int, k: int = K, **attributes: Any) -> Made:
    """A product of what a Transpose, Reshape, Slice or the like gives of a pair."""

    def make(g: Graph) -> ir.Value:
        more = [g.numbers(number) for number in numbers]
        if operator == "Reshape":
            more = [g.numbers(*numbers)]
        return g.product(g.op(operator, g.pair(), *more, **attributes), g.weight(shape=(k, N)))

    return make


def convolution(g: Graph) -> ir.Value:
    weight = g.weight(shape=(K, K, 3), axis=0)
    return g.op("Conv", g.pair(), weight, name="gemm", kernel_shape=[3], pads=[1, 1])


def axes_of(graph: Graph, *, ranks: bool) -> ir.Value:
    """Axes [1] that are computed: 0, from the rank of `x` or from its numbers."""
    if ranks:
        shape = graph.op("Shape", graph.x, dtype=INT64)
        rank = graph.op("Shape", shape, dtype=INT64)
        return graph.op("Sub", rank, graph.numbers(3), dtype=INT64)
    largest = graph.op("ReduceMax", graph.x, keepdims=0)
    whole = graph.op("Cast", largest, to=int(INT64), dtype=INT64)
    return graph.op("Reshape", whole, graph.numbers(1), dtype=INT64)
