"""Fields of protobuf, read from bytes as its own parsers read them, or refused.

Whatever a runtime would read otherwise than this reader is a way around every rule. Parsers differ
from each other in what no writer writes (tags and enumerations beyond 32 bits, numbers of eleven
bytes, groups, names that are no UTF-8), so that is refused. What they agree on is done as they do
it: a field of another wire type than its own is unknown and stepped over, lists add up, of single
values the last counts, and single messages are merged.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np

from qdeploy.onnx_file.structure import MAX_DEPTH, MAX_FIELDS, MAX_NAME, MAX_NAMES, WireError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
_CUT = "it ends in the middle of a field"
_TAG_BYTES = _SIZE_BYTES = 5
_NUMBER_BYTES = 10
_CHUNK = 1 << 24
# Fields of messages that are not looked into, but counted: number → the message in it.
_COUNTED: dict[str, dict[int, str]] = {
    "pair": {},
    "opset": {},
    "dimension": {},
    "shape": {1: "dimension"},
    "tensor type": {2: "shape"},
    "sequence": {1: "type"},
    "map": {2: "type"},
    "type": {1: "tensor type", 4: "sequence", 5: "map", 8: "tensor type", 9: "sequence"},
    "annotation": {2: "pair"},
    "device": {2: "sharding"},
    "sharding": {3: "group", 4: "sharded dimension"},
    "group": {},
    "sharded dimension": {2: "dimension"},
    "training": {3: "pair", 4: "pair"},
}


class Wire:
    """A reader of fields; what it read in all is bounded.

    Attributes:
        read: entries so far: fields, and numbers without tags that were looked at.
    """

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data = data
        self.read = self._named = 0

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Number, wire type, and the value (wire type 0) or where it starts and stops.

        Raises:
            WireError: they are not those of a parser, or too many.
        """
        data = self.data
        while at < end:
            self._count_one()
            tag = data[at]
            at += 1
            if tag >= 128:
                tag, at = self.varint(at - 1, _TAG_BYTES)
            wire = tag & 7
            if not 8 <= tag < 1 << 32:
                raise WireError("a field in it has a number that no field has")
            if wire == BYTES:
                size = data[at]
                at += 1
                if size >= 128:
                    size, at = self.varint(at - 1, _SIZE_BYTES)
                start, at = at, at + size
                if at > end:
                    raise WireError(_CUT)
                yield tag >> 3, BYTES, start, at
            elif wire == VARINT:
                value, at = self.varint(at)
                yield tag >> 3, VARINT, value, 0
            elif wire in (FIXED64, FIXED32):
                start, at = at, at + (8 if wire == FIXED64 else 4)
                yield tag >> 3, wire, start, at
            else:
                raise WireError("its fields are not those of ONNX")
        if at != end:
            raise WireError(_CUT)

    def varint(self, at: int, most: int = _NUMBER_BYTES) -> tuple[int, int]:
        """A number of `most` bytes at most, and where it stops."""
        value = shift = 0
        while True:
            byte = self.data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
            if shift >= 7 * most:
                raise WireError(f"a number in it has more than {most} bytes")
        if value >> 64:
            raise WireError("a number in it has more than 64 bits")
        return value, at

    def text(self, start: int, stop: int) -> str:
        """A name.

        Raises:
            WireError: it is too long, one too many, or not UTF-8.
        """
        self._named += stop - start
        if stop - start > MAX_NAME:
            raise WireError(f"a name in it has more than {MAX_NAME:,} bytes")
        if self._named > MAX_NAMES:
            raise WireError(f"its names have more than {MAX_NAMES:,} bytes")
        try:
            return self.data[start:stop].decode("utf-8")
        except UnicodeDecodeError:
            raise WireError("a name in it is not UTF-8") from None

    def packed(self, at: int, end: int) -> list[int]:
        """Signed numbers that stand without tags between them."""
        found = []
        while at < end:
            value, at = self.varint(at)
            found.append(signed(value))
            self._count_one()
        if at != end:
            raise WireError(_CUT)
        return found

    def count_packed(self, at: int, end: int) -> int:
        """How many numbers stand there without tags between them: each ends in a byte below 128."""
        if at < end and self.data[end - 1] >= 128:
            raise WireError(_CUT)
        found = 0
        for start in range(at, end, _CHUNK):
            part = self.data[start : min(start + _CHUNK, end)]
            found += int(np.count_nonzero(np.frombuffer(part, np.uint8) < 128))
            if isinstance(self.data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                self.data.madvise(mmap.MADV_DONTNEED)  # what was read stays no memory of ours
        return found

    def skip(self, kind: str, start: int, stop: int, depth: int = 1) -> None:
        """Step through a message of which nothing is kept."""
        if depth > MAX_DEPTH * 3:
            raise WireError("a type in it is nested too deeply")
        known = _COUNTED[kind]
        for number, wire, begin, end in self.fields(start, stop):
            if wire == BYTES and number in known:
                self.skip(known[number], begin, end, depth + 1)

    def _count_one(self) -> None:
        self.read += 1
        if self.read > MAX_FIELDS:
            raise WireError(f"it has more than {MAX_FIELDS:,} entries")


def signed(value: int) -> int:
    """An int64 of 64 bits."""
    return value - (1 << 64) if value >= 1 << 63 else value


def small(value: int, what: str) -> int:
    """An int32 or a value of an enumeration, none of which is negative in ONNX.

    Raises:
        WireError: it is, or has more bits, of which some parsers take the lowest.
    """
    if value >= 1 << 31:
        raise WireError(f"{what} in it has a number of more than 31 bits")
    return value
