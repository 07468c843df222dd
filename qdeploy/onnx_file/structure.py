"""What is kept of an ONNX file's structure, and how much of it there may be."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

# An honest file of a hundred thousand nodes has about this many fields; each may become an object.
MAX_FIELDS = 1_500_000
MAX_NODES = 100_000  # lowered encoders of 24 layers have some thousands
# Bodies of If, Loop and Scan within each other; protobuf itself reads about thirty.
MAX_DEPTH = 16
MAX_BODIES = 4096  # and functions, of the whole file; honest ones have some dozens
MAX_NAME = 4096  # bytes: the longest are paths of modules, of some hundreds
MAX_NAMES = 1 << 27  # bytes of all names together
KEPT = 128  # numbers of an int64 constant that are kept, since they may be a shape
_SHOWN = 80  # characters of a name in a text
_INT64 = 7  # the type, and the field of its numbers


class WireError(ValueError):
    """The bytes are no ONNX file, or one beyond the limits; the text says what is wrong.

    Attributes:
        remedy: what to do, a sentence; empty where the file is to be made anew.
    """

    def __init__(self, fact: str, remedy: str = "") -> None:
        super().__init__(fact)
        self.remedy = remedy


def cut(name: str) -> str:
    """A name as it stands in a text."""
    return name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"


@dataclass(slots=True)
class Tensor:
    """An initializer or the value of a Constant.

    Attributes:
        counts: field that numbers are stored in → how many it holds.
        raw: bytes of raw_data; None where there is none.
        external: entries of external_data, each key with all its values.
        small: raw_data, where it has few bytes.
        integers: the first numbers of int64_data, up to where there are more than few.
        dense: shape that a sparse tensor, whose numbers these are, is made to.
    """

    name: str = ""
    dims: list[int] = field(default_factory=list)
    data_type: int = 0
    counts: dict[int, int] = field(default_factory=dict)
    raw: int | None = None
    is_external: bool = False
    external: dict[str, list[str]] = field(default_factory=dict)
    small: bytes = b""
    integers: list[int] = field(default_factory=list)
    dense: list[int] = field(default_factory=list)

    def label(self) -> str:
        """How a text names it."""
        return f"the tensor {cut(self.name)}" if self.name else "a tensor"

    def few(self) -> list[int] | None:
        """The numbers of an int64 tensor of few; None where it is no such one."""
        if self.data_type != _INT64 or self.is_external:
            return None
        if self.raw is not None:
            if self.raw > 8 * KEPT:
                return None
            if len(self.integers) * 8 != self.raw:  # asked for the first time
                self.integers = list(struct.unpack(f"<{self.raw // 8}q", self.small))
            return self.integers
        return self.integers if self.counts.get(_INT64, 0) == len(self.integers) else None


@dataclass(slots=True)
class Node:
    """A call of an operator or function; `tensors` and `integers` are of its attributes by name."""

    name: str = ""
    op_type: str = ""
    domain: str = ""
    overload: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    integers: dict[str, list[int]] = field(default_factory=dict)
    bodies: list[Graph] = field(default_factory=list)

    def label(self) -> str:
        """How a text names it."""
        return f"{cut(self.op_type)} {cut(self.name or next(iter(self.outputs), ''))}".strip()


@dataclass(slots=True)
class Graph:
    """A graph, the body of a node, or (with a name and a domain) a function."""

    name: str = ""
    domain: str = ""
    overload: str = ""
    nodes: list[Node] = field(default_factory=list)
    initializers: list[Tensor] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


@dataclass(slots=True)
class File:
    """A whole file."""

    graph: Graph | None = None
    functions: list[Graph] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
