"""How a grouped GEMM input is cut into products, the same for every target.

1. The widest group is quantized over the full width with its own scale s, and meets the weight
   whose other rows are zero: the GEMM keeps its shape, and channels that saturate there meet zeros.
2. A group whose scale is about m·s for a whole number m is quantized with m·s; its codes and its
   weight rows are joined to the wide GEMM m times: m · s · code · row is exact, in one kernel
   (docs/adr/0003).
3. Any other group: its channels, with their own scale, times a slim INT8 GEMM.
4. The outlier channels times a slim FP32 GEMM.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qdeploy.calibrate.affine import LEVELS, Affine
from qdeploy.calibrate.plan import Grouped, PerTensor
from qdeploy.deploy.lowering.channel_splits import ChannelSplit, split_channels
from qdeploy.types import Array

Group = tuple[tuple[int, ...], Affine]

# The first group keeps the full width when it holds at least this share of the channels; below, its
# channels are cut out too, as the zero rows would cost more than the cut.
WIDE_SHARE = 0.75
# A group joins the wide GEMM as repeated rows while these are at most this share of its rows, and
# while rounding its scale up to m·s widens its step by no more than this factor (m is whole, so 2
# refuses only what the shared zero point stretches).
REPEATED_SHARE = 0.3
COARSER = 2.0


@dataclass(frozen=True)
class GemmConstraints:
    """In which pieces a target multiplies.

    Attributes:
        repeats: a group may join the wide GEMM as repeated rows (2. above).
        least: rows K, and columns N, that an INT8 product needs at least.
        multiple: rows and columns of a cut INT8 product are padded to a multiple of this.
        float_multiple: the same, of the float product of outlier channels.
        second_norm: factors behind a LayerNormalization stand in one more of it; else in a
            multiplication, where that becomes part of the rounding.
        splits: groups and outlier channels become further columns of one operand
            (`channel_splits`), as long as those are few; symmetric scales only.
    """

    repeats: bool = True
    least: int = 1
    multiple: int = 1
    float_multiple: int = 1
    second_norm: bool = True
    splits: bool = False


@dataclass(frozen=True)
class Repeated:
    """Channels whose codes, on the scale times·s, stand `times` times in the wide GEMM."""

    channels: tuple[int, ...]
    affine: Affine
    times: int


@dataclass(frozen=True)
class GroupedGemm:
    """The products of one grouped input.

    Attributes:
        total: channels C of the input.
        wide: the group at full width, or None where no group is large enough.
        repeated: groups that join it.
        slim: groups with a product of their own.
        outliers: channels in float.
        split: takes the place of `wide` and `repeated`, where the target splits channels.
    """

    total: int
    wide: Group | None
    repeated: tuple[Repeated, ...]
    slim: tuple[Group, ...]
    outliers: tuple[int, ...]
    split: ChannelSplit | None = None

    def wide_rows(self) -> Array:
        """The weight row that each column of the wide operand meets; −1 for a row of zeros."""
        assert self.wide is not None
        rows = np.full(self.total, -1)
        rows[list(self.wide[0])] = self.wide[0]
        tiles = [np.tile(np.array(part.channels), part.times) for part in self.repeated]
        return np.concatenate([rows, *tiles])


def grouped_gemm(
    treatment: Grouped, cuts: GemmConstraints = GemmConstraints(), *, picked: bool = False
) -> GroupedGemm:
    """Decide the form of every group.

    Args:
        picked: channels come as they are asked for (`column_blocks`), not all of them in order.
    """
    if cuts.splits:
        return _split_gemm(treatment, cuts, picked=picked)
    pairs = sorted(zip(treatment.groups, treatment.affines, strict=True), key=_size)
    # Outlier channels count too: the wide operand is the whole tensor, and theirs meet zeros.
    total = sum(len(g) for g in treatment.groups) + len(treatment.outlier_channels)
    if len(pairs[0][0]) < WIDE_SHARE * total:
        return GroupedGemm(total, None, (), tuple(pairs), treatment.outlier_channels)
    wide, *others = pairs
    # Largest groups first: one that no longer fits leaves the room to smaller ones behind it.
    repeated, slim, room = [], [], int(REPEATED_SHARE * total)
    for channels, affine in others:
        times = repetitions(wide[1], affine) if cuts.repeats else None
        if times is None or times * len(channels) > room:
            slim.append((channels, affine))
            continue
        room -= times * len(channels)
        # m·s as the kernel has it, in FP32, and the zero point that one GEMM has for all its rows.
        coarse = Affine(float(np.float32(wide[1].scale * times)), wide[1].zero_point)
        repeated.append(Repeated(channels, coarse, times))
    return GroupedGemm(total, wide, tuple(repeated), tuple(slim), treatment.outlier_channels)


def _split_gemm(treatment: Grouped, cuts: GemmConstraints, *, picked: bool) -> GroupedGemm:
    total = sum(map(len, treatment.groups)) + len(treatment.outlier_channels)
    split, slim, outliers = split_channels(treatment, total, cuts.multiple, whole=not picked)
    if not picked and sum(map(len, (group for group, _ in slim))) > (1 - WIDE_SHARE) * total:
        split, slim, outliers = split_channels(treatment, total, cuts.multiple, whole=False)
    return GroupedGemm(total, None, (), tuple(slim), outliers, split)


def repetitions(wide: Affine, other: Affine) -> int | None:
    """The least m for which m times the wide group's scale spans the other group's range.

    Both share the wide group's zero point in one GEMM, so each side of zero must fit by itself.
    None where m·s would be more than `COARSER` times as coarse as the group's own scale.

    >>> repetitions(Affine(0.1, 128), Affine(1.0, 128))
    10
    """
    # Below zero a range holds zero_point steps, above it the rest of the levels.
    sides = [
        (other.zero_point * other.scale, wide.zero_point * wide.scale),
        ((LEVELS - other.zero_point) * other.scale, (LEVELS - wide.zero_point) * wide.scale),
    ]
    # A side that the wide group lacks altogether is reached by no multiple.
    if any(needed > 0 and held <= 0 for needed, held in sides):
        return None
    # Scales are FP32: a quotient of 3.0000001 is the 3 that it was made as.
    times = max(math.ceil(needed / held * (1 - 1e-6)) for needed, held in sides if needed > 0)
    return times if times * wide.scale <= COARSER * other.scale else None


def padded(channels: tuple[int, ...], least: int, multiple: int = 1) -> tuple[Array, Array]:
    """Columns and the weight rows that they meet, at least so many: the first again, meeting zeros.

    Args:
        multiple: their number is rounded up to a multiple of this.

    >>> padded((7,), 2)
    (array([7, 7]), array([ 7, -1]))
    """
    columns = np.array(channels)
    wanted = multiple * math.ceil(max(least, len(columns)) / multiple)
    # Filled up with a channel that is there anyway; its further columns meet rows of zeros.
    short = wanted - len(columns)
    again = np.repeat(columns[:1], short)
    return np.concatenate([columns, again]), np.concatenate([columns, np.full(short, -1)])


def window(channels: tuple[int, ...], total: int, least: int, multiple: int) -> tuple[Array, Array]:
    """As `padded`, but neighbouring channels are padded with their own neighbours.

    What is cut then is one slice that starts and ends at multiples, where the tensor does.

    >>> window((5, 6), 16, 1, 4)
    (array([4, 5, 6, 7]), array([-1,  5,  6, -1]))
    """
    first, last = channels[0], channels[-1] + 1
    start, end = multiple * (first // multiple), multiple * math.ceil(last / multiple)
    # Scattered channels are gathered, which costs the same wherever they stand. A window that ends
    # outside the tensor, or is too narrow for the target, is filled up with repeated channels.
    neighbours = channels == tuple(range(first, last))
    if not neighbours or end > total or end - start < least:
        return padded(channels, least, multiple)
    columns = np.arange(start, end)
    return columns, np.where((columns >= first) & (columns < last), columns, -1)


def column_blocks(
    treatment: PerTensor | Grouped,
    channels: int,
    pieces: int,
    cuts: GemmConstraints = GemmConstraints(),
) -> list[Array]:
    """The blocks of channels that are quantized alike, as arrays of indices.

    Args:
        channels: C of the tensor.
        pieces: blocks that the channels of the widest group come in.
        cuts: of the target.

    Returns:
        The pieces of the widest group, then each other group, then the outlier channels.
    """
    if isinstance(treatment, PerTensor):
        return np.array_split(np.arange(channels), pieces)
    parts = grouped_gemm(treatment, cuts, picked=True)
    wide = [] if parts.split is None else [parts.split.source]
    wide += [] if parts.wide is None else np.array_split(np.array(parts.wide[0]), pieces)
    others = [part.channels for part in parts.repeated] + [group for group, _ in parts.slim]
    blocks = wide + [padded(group, cuts.least, cuts.multiple)[0] for group in others]
    if parts.outliers:
        blocks.append(padded(parts.outliers, cuts.least, cuts.float_multiple)[0])
    return blocks


def rows_of(weight: Array, rows: Array) -> Array:
    """The weight [K', N] that an operand's columns meet.

    Args:
        weight: [K, N].
        rows: [K'], −1 for a row of zeros; empty for all rows in order.
    """
    if len(rows) == 0:
        return weight
    picked: Array = weight[rows]
    picked[rows < 0] = 0
    return picked


def _size(pair: Group) -> tuple[int, tuple[int, ...]]:
    """Sort key: largest group first, then by channels so that the order is fixed."""
    return -len(pair[0]), pair[0]
