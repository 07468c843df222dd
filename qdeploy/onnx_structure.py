"""What is kept of an ONNX file's structure, and how much of it there may be."""

from __future__ import annotations

from dataclasses import dataclass, field

# An honest file of a hundred thousand nodes has about this many fields; each may become an object.
MAX_FIELDS = 1_500_000
MAX_NODES = 100_000  # lowered encoders of 24 layers have some thousands
# Bodies of If, Loop and Scan within each other; protobuf itself reads about thirty.
MAX_DEPTH = 16
MAX_BODIES = 4096  # of the whole file; honest ones have some dozens
SMALL = 1024  # bytes of constants that are kept, since they may be shapes


class WireError(ValueError):
    """The bytes are no ONNX file, or one beyond the limits; the text says what is wrong."""


@dataclass(slots=True)
class Tensor:
    """An initializer or the value of a Constant.

    Attributes:
        counts: field that numbers are stored in → least and most numbers that its bytes hold.
        raw: bytes of raw_data; None where there is none.
        external: entries of external_data, each key with all its values.
        small: bytes of raw_data or int64_data, where they are few.
    """

    name: str = ""
    dims: list[int] = field(default_factory=list)
    data_type: int = 0
    counts: dict[int, tuple[int, int]] = field(default_factory=dict)
    raw: int | None = None
    is_external: bool = False
    external: dict[str, list[str]] = field(default_factory=dict)
    small: bytes = b""
    small_field: int = 0


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
        return f"{self.op_type} {self.name or next(iter(self.outputs), '')}".strip()


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
