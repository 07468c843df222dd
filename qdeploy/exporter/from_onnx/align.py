"""Which axis becomes which in a Reshape or an Expand whose target was traced with one size.

A Reshape keeps the order of elements. So its axes fall into groups from the left, whose products
are equal on both sides. Within a group the batch is the outermost factor, and the sequence is the
axis that has its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from qdeploy.exporter.from_onnx.observe import Size

_ONE: Size = (1, 0, 0, 0)
_FORMS = {(False, False): 0, (True, False): 1, (False, True): 2, (True, True): 3}


def size_at(size: Size, batch: int, sequence: int) -> int:
    """The number at one batch and sequence.

    >>> size_at((0, 4, 0, 0), 2, 16)
    8
    """
    a, b, c, d = size
    return a + b * batch + c * sequence + d * batch * sequence


def align(
    given: Sequence[Size | None], target: Sequence[int], batch: int, sequence: int
) -> tuple[Size, ...] | None:
    """The sizes of a Reshape's result as functions; None where they are not decided.

    Args:
        given: of the input.
        target: of the result, at the traced size.
        batch: traced.
        sequence: traced.

    >>> batches, tokens = (0, 1, 0, 0), (0, 0, 1, 0)
    >>> align([batches, tokens, (32, 0, 0, 0)], [1, 16, 4, 8], 1, 16)
    ((0, 1, 0, 0), (0, 0, 1, 0), (4, 0, 0, 0), (8, 0, 0, 0))
    """
    known = [size for size in given if size is not None]
    if len(known) < len(given) or 0 in target:
        return None
    numbers = [size_at(size, batch, sequence) for size in known]
    if math.prod(numbers) != math.prod(target):
        return None
    found: list[Size] = []
    at = to = 0
    while at < len(known) and to < len(target):
        first, start = at, to
        left, right = numbers[at], target[to]
        at, to = at + 1, to + 1
        while left != right:
            if left < right:
                left, at = left * numbers[at], at + 1
            else:
                right, to = right * target[to], to + 1
        if to == len(target):  # what is left are axes of one, or of a batch of one
            at = len(known)
        elif at == len(known):
            to = len(target)
        group = _spread(known[first:at], target[start:to], batch, sequence)
        if group is None:
            return None
        found += group
    return tuple(found) + tuple((number, 0, 0, 0) for number in target[to:])


def _spread(
    given: Sequence[Size], target: Sequence[int], batch: int, sequence: int
) -> list[Size] | None:
    """A product of sizes over the axes of a target."""
    product = _product(given)
    if product is None:
        return None
    factor, batches, tokens = product
    rest = list(target)
    has = [[False, False] for _ in rest]
    if tokens:
        places = [at for at, number in enumerate(rest) if number == sequence]
        places = places or ([0] if len(rest) == 1 else [])
        if len(places) != 1:
            return None
        rest[places[0]] //= sequence
        has[places[0]][1] = True
    if batches:
        place = next((at for at, number in enumerate(rest) if number % batch == 0), None)
        if place is None:
            return None
        rest[place] //= batch
        has[place][0] = True
    if math.prod(rest) != factor:
        return None
    return [_size(number, *flags) for number, flags in zip(rest, has, strict=True)]


def _product(sizes: Sequence[Size]) -> tuple[int, bool, bool] | None:
    """Factor, batch and sequence of a product; None of sums, and of squares."""
    factor, batches, tokens = 1, False, False
    for size in sizes:
        parts = [(number, at) for at, number in enumerate(size) if number]
        if len(parts) != 1:
            return None
        number, at = parts[0]
        if (batches and at in (1, 3)) or (tokens and at in (2, 3)):
            return None
        factor, batches, tokens = factor * number, batches or at in (1, 3), tokens or at in (2, 3)
    return factor, batches, tokens


def _size(number: int, batches: bool, tokens: bool) -> Size:
    numbers = [0, 0, 0, 0]
    numbers[_FORMS[batches, tokens]] = number
    return numbers[0], numbers[1], numbers[2], numbers[3]


def spread(
    given: Sequence[Size | None],
    target: Sequence[int],
    point: tuple[int, int],
    met: Sequence[Size | None] = (),
) -> tuple[Size, ...]:
    """The target of an Expand: 1 keeps an axis, and new axes of the traced size are of any size.

    Args:
        given: sizes of the input.
        target: at the traced size, at least as long.
        point: batch and sequence, traced.
        met: sizes of the tensor that reads the result beside it, which tell a hidden size from a
            sequence as long; empty where they are not known.

    >>> tokens, channels = (0, 0, 1, 0), (32, 0, 0, 0)
    >>> spread([tokens, _ONE], [32, 32], (1, 32), [tokens, channels])
    ((1, 0, 0, 0), (32, 0, 0, 0))
    """
    batch, sequence = point
    ahead = len(target) - len(given)
    found: list[Size] = []
    for at, number in enumerate(target):
        size: Size | None = _ONE if at < ahead else given[at - ahead]
        constant: Size = (number, 0, 0, 0)
        if size != _ONE or number == 1:
            found.append(_ONE)
        elif met and met[at] == constant:
            found.append(constant)
        elif number == sequence:
            found.append((0, 0, 1, 0))
        elif number == batch:
            found.append((0, 1, 0, 0))
        else:
            found.append(constant)
    return tuple(found)
