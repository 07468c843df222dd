"""Work of the layers of a compiled engine at a shape: products, and bytes read and written.

The builder's list (`qdeploy.deploy.targets.tensorrt.dump`) leaves every size to the run that
depends on rows or tokens: −1. Layers stand in the order of their run, and tensors have names. So
each tensor gets its number of elements where it is written, and every later view of it, whatever
its dimensions, has the same number, or the share of it that its strides tell.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qdeploy.deploy.targets.tensorrt.dump import IDLE, Entry, Tensor
from qdeploy.deploy.targets.tensorrt.inspector import MYELIN_PRODUCT

_ATTENTION = re.compile(r"mha")
_BYTES = {"double": 8, "int64": 8, "float": 4, "int32": 4, "half": 2, "bfloat16": 2, "bool": 1}


@dataclass(frozen=True)
class Product:
    """Matrices that are multiplied: `count` times [m, k] × [k, n]."""

    count: int
    m: int
    n: int
    k: int

    @property
    def flops(self) -> int:
        """A multiply and an add are two operations, of integers too."""
        return 2 * self.count * self.m * self.n * self.k


@dataclass(frozen=True)
class Work:
    """What a layer does in a run.

    Attributes:
        name: of the layer.
        kind: "gemm", "attention" or "other".
        precision: of its products: "int8", "fp8", "fp16" or "fp32"; empty where it has none.
        products: matrices that it multiplies.
        moved: bytes of activations read and written, each tensor once.
        constant: bytes of weights read, of a table only the rows that are looked up.
    """

    name: str
    kind: str
    precision: str
    products: tuple[Product, ...]
    moved: int
    constant: int

    @property
    def flops(self) -> int:
        """Operations of its products; all others are not counted."""
        return sum(product.flops for product in self.products)


def works(layers: str, rows: int, tokens: int) -> list[Work]:
    """What each launching layer does in a run.

    Args:
        layers: JSON of `layers_json`.
        rows, tokens: of the run.
    """
    entries: list[Entry] = json.loads(layers, strict=False)["Layers"]
    run = _Run(rows, tokens)
    return [run.work(entry) for entry in entries if entry["LayerType"] not in IDLE]


class _Run:
    """Elements of the tensors that are known so far, by name."""

    def __init__(self, rows: int, tokens: int) -> None:
        self.rows, self.tokens = rows, tokens
        self._known: dict[str, int] = {}

    def work(self, entry: Entry) -> Work:
        """Of one layer; its outputs are known from then on."""
        inputs, called = entry["Inputs"], entry["TacticName"] or entry["Name"]
        sizes = [self._view(tensor) for tensor in inputs]
        products: tuple[Product, ...] = ()
        kind = "other"
        if _ATTENTION.search(called):
            kind, written = "attention", self._queries(inputs, sizes)
            products = self._attention(inputs, sizes, written, entry["Outputs"][0])
            self._keep(entry["Outputs"], written)
        elif entry["LayerType"] == "gemm" or MYELIN_PRODUCT.search(called):
            kind, products = "gemm", self._products(entry, sizes)
            written = sum(product.count * product.m * product.n for product in products)
            self._keep(entry["Outputs"], written // max(len(entry["Outputs"]), 1))
        else:
            for tensor in entry["Outputs"]:
                self._known[tensor["Name"]] = self._written(tensor, inputs, sizes)
        moved = sum(size * bytes_of(t) for t, size in zip(inputs, sizes, strict=True))
        moved += sum(self._known[t["Name"]] * bytes_of(t) for t in entry["Outputs"])
        most = max((self._known[t["Name"]] for t in entry["Outputs"]), default=0)
        weights = 0
        for constant in entry["Constants"]:
            size = math.prod(constant["Dimensions"])
            weights += bytes_of(constant) * (size if kind == "gemm" else min(size, most))
        precision = _precision(entry) if products else ""
        return Work(entry["Name"], kind, precision, products, moved, weights)

    def _keep(self, outputs: Iterable[Tensor], elements: int) -> None:
        for tensor in outputs:
            free = -1 in tensor["Dimensions"]
            self._known[tensor["Name"]] = elements if free else math.prod(tensor["Dimensions"])

    def _view(self, tensor: Tensor) -> int:
        """Elements that a layer reads of a tensor."""
        sizes = tensor["Dimensions"]
        if -1 not in sizes:
            return math.prod(sizes)
        known = self._known.get(tensor["Name"])
        if known is None:  # an input of the engine
            known = self._known[tensor["Name"]] = self._plainly(sizes)
        return int(known * _share(tensor))

    def _plainly(self, sizes: Sequence[int]) -> int:
        """Elements where the first free axis is of rows, and the others are of tokens."""
        axes = [self.tokens if size == -1 else size for size in sizes]
        if sizes and sizes[0] == -1:
            axes[0] = self.rows
        return math.prod(axes)

    def _written(self, tensor: Tensor, inputs: Sequence[Tensor], sizes: Sequence[int]) -> int:
        """Elements that a layer without products writes of a tensor."""
        dims, strides = tensor["Dimensions"], tensor["Strides"]
        if dims.count(-1) == 0:
            return math.prod(dims)
        read = max(sizes, default=0)
        alike = [size for t, size in zip(inputs, sizes, strict=True) if t["Dimensions"] == dims]
        if alike and len(dims) > 2:  # also where rows × heads are one axis
            return max(alike)
        heads = len(dims) == 3 and dims.count(-1) == 2 and strides[0] > 0
        if heads:  # rows × heads in one axis, or the axes of a transposed one
            return read or self._plainly(dims)
        if dims.count(-1) == 1 and dims[0] == -1 and 1 not in dims[1:]:
            # rows or rows × tokens in one axis: as many as the tensors have that are read
            width = math.prod(dims[1:])
            counts = [_lines(t, size) for t, size in zip(inputs, sizes, strict=True)]
            return width * max(counts, default=self.rows * self.tokens)
        return self._plainly(dims)

    def _queries(self, inputs: Sequence[Tensor], sizes: Sequence[int]) -> int:
        """Elements of the queries: the smallest that is neither a mask nor a bias."""
        found = [
            size
            for tensor, size in zip(inputs, sizes, strict=True)
            if any(axis > 1 for axis in tensor["Dimensions"])
        ]
        return min(found, default=max(sizes, default=0))

    def _attention(
        self, inputs: Sequence[Tensor], sizes: Sequence[int], queries: int, output: Tensor
    ) -> tuple[Product, ...]:
        """Q·Kᵀ and P·V of all heads: 4 · rows · heads · queries · tokens · width, two products."""
        width = max(output["Dimensions"][-1], 1)
        if output["Dimensions"][-1] == -1:
            width = min((a for t in inputs for a in t["Dimensions"] if a > 1), default=1)
        keys = max(
            (s for t, s in zip(inputs, sizes, strict=True) if any(a > 1 for a in t["Dimensions"])),
            default=queries,
        )
        heads = max(keys // (width * self.tokens), 1)  # of all rows
        asked = max(queries // (width * heads), 1)  # of a row
        return (
            Product(heads, asked, self.tokens, width),
            Product(heads, asked, width, self.tokens),
        )

    def _products(self, entry: Entry, sizes: Sequence[int]) -> tuple[Product, ...]:
        """A layer's matrices times its constants, or times each other."""
        matrices = [c["Dimensions"] for c in entry["Constants"] if _is_matrix(c)]
        if matrices and sizes:
            widest = max(matrices, key=math.prod)
            lasts = [tensor["Dimensions"][-1] for tensor in entry["Inputs"]]
            at = lasts.index(widest[-2]) if widest[-2] in lasts else 0  # a sum may stand before it
            lines = sizes[at] // widest[-2]
            return tuple(
                Product(1, lines, dims[-1], dims[-2]) for dims in matrices if dims[-2] == widest[-2]
            )
        if len(sizes) < 2:
            return ()
        left, right = entry["Inputs"][0]["Dimensions"], entry["Inputs"][1]["Dimensions"]
        inner = left[-1] if left[-1] > 0 else right[-2]
        inner = inner if inner > 0 else self.tokens
        m = left[-2] if left[-2] > 0 else self.tokens
        n = right[-1] if right[-1] > 0 else self.tokens
        return (Product(max(sizes[0] // (m * inner), 1), m, n, inner),)


def bytes_of(tensor: Tensor) -> int:
    """Of one element."""
    kind = tensor["Datatype"].lower()
    return _BYTES.get(kind, 1)


def _share(tensor: Tensor) -> float:
    """How much of a tensor a view has: 1, or less where its lines are further apart than long."""
    axes = list(zip(tensor["Dimensions"], tensor["Strides"], strict=True))
    free = [stride for size, stride in axes if size == -1 and stride > 0]
    if not free:
        return 1.0
    apart = max(free)
    inner = math.prod(size for size, stride in axes if size > 0 and 0 < stride < apart)
    within = any(size == -1 and 0 < stride < apart for size, stride in axes)
    return inner / apart if not within and 1 < inner < apart else 1.0


def _lines(tensor: Tensor, elements: int) -> int:
    """How many lines of its last axis a tensor has; none where that axis is of the run."""
    last = tensor["Dimensions"][-1] if tensor["Dimensions"] else -1
    return elements // last if last > 1 else 0


def _is_matrix(tensor: Tensor) -> bool:
    dims = tensor["Dimensions"]
    return len(dims) >= 2 and dims[-2] > 1 and dims[-1] >= 1


def _precision(entry: Entry) -> str:
    """Of a layer's products: that of both operands where they agree, else the wider one."""
    weights = [tensor for tensor in entry["Constants"] if _is_matrix(tensor)]
    operands = [*entry["Inputs"][:1], *(weights[:1] or entry["Inputs"][1:2])]
    if _ATTENTION.search(entry["TacticName"] or entry["Name"]):
        operands = [t for t in entry["Inputs"] if t["Datatype"].lower() != "bool"]
    kinds = {_kind(tensor) for tensor in operands}
    return next((kind for kind in ("fp32", "fp16", "fp8", "int8") if kind in kinds), "fp16")


def _kind(tensor: Tensor) -> str:
    name = tensor["Datatype"].lower()
    if "fp8" in name or "e4m3" in name:
        return "fp8"
    return {"int8": "int8", "float": "fp32"}.get(name, "fp16")
