"""Fields of protobuf, byte by byte."""

from __future__ import annotations

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def entry(number: int, wire: int, value: int | bytes) -> bytes:
    """A field; numbers that stand in bytes are bytes."""
    content = varint(value) if isinstance(value, int) else value
    size = varint(len(content)) if wire == BYTES else b""
    return varint(number << 3 | wire) + size + content
