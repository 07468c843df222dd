"""Bytes that are no model, or one that was damaged."""

from __future__ import annotations

import random

from tests.deploy.hostile_nodes import functions, named, nested_loops, odd_scales
from tests.deploy.hostile_sizes import diamond
from tests.deploy.onnx_graphs import PRODUCT, graph_of
from tests.deploy.wire import BYTES, entry


def _wire(number: int, content: bytes) -> bytes:
    """A field of protobuf that holds bytes."""
    return entry(number, BYTES, content)


def bomb(rng: random.Random) -> bytes:
    """Two bytes of the file are an object of a hundred in memory."""
    many = rng.choice((2_000_000, 4_000_000))
    empty = {
        "nodes": lambda: _wire(7, _wire(1, b"") * many),
        "tensors": lambda: _wire(7, _wire(5, b"") * many),
        "values": lambda: _wire(7, _wire(13, b"") * many),
        "attributes": lambda: _wire(7, _wire(1, _wire(5, b"") * many)),
        "properties": lambda: _wire(14, b"") * many,
        "dimensions": lambda: _wire(
            7, _wire(11, _wire(2, _wire(1, _wire(2, _wire(1, b"") * many))))
        ),
        "functions": lambda: _wire(25, b"") * many,
        "dims": lambda: _wire(7, _wire(5, b"\x08\x01" * many)),
        "strings": lambda: _wire(7, _wire(5, _wire(6, b"") * many)),
    }
    return empty[rng.choice(list(empty))]()


def damaged(rng: random.Random) -> bytes:
    return rng.choice(
        (
            rng.randbytes(rng.choice((1, 10, 1000, 100_000))),
            b"\x3b" + bytes(50),  # a group, which nothing writes
            b"\x3a" + b"\xff" * 20,  # a length without end
            b"\x3a\xff\xff\xff\xff\x0f" + bytes(100),  # a length of 4 GB
            b"\x08" + b"\x80" * 9 + b"\x01",
            _wire(7, _wire(1, _wire(5, _wire(6, b"")) * 3)),
            b"<html><body>404</body></html>",
            b'ir_version: 8\ngraph { name: "g" }\n',
            b'{"irVersion": "8", "graph": {}}',
            b"\x1f\x8b\x08" + bytes(500),
            b"ORTM" + bytes(500),
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            _wire(20, b"") + graph_of([PRODUCT]).SerializeToString(),
            graph_of([PRODUCT]).SerializeToString() * 3,
        )
    )


def _bases(rng: random.Random) -> bytes:
    made = rng.choice((nested_loops, functions, odd_scales, named, diamond))
    if made in (nested_loops, functions, diamond):
        made = odd_scales
    return made(rng).SerializeToString()


def flipped(rng: random.Random) -> bytes:
    content = bytearray(_bases(rng))
    for _ in range(rng.choice((1, 2, 8, 64))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def spliced(rng: random.Random) -> bytes:
    content = _bases(rng)
    start, stop = sorted(rng.randrange(len(content)) for _ in range(2))
    return (
        content[:start] + content[stop:] if rng.random() < 0.5 else content[:stop] + content[start:]
    )
