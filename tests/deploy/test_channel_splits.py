"""Channels in several columns add up to one rounding of more levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import Grouped
from qdeploy.deploy.lowering.channel_splits import MOST_SHARE, ChannelSplit, split_channels
from qdeploy.deploy.lowering.groups import GemmConstraints, grouped_gemm

Array = npt.NDArray[Any]


def codes_of(split: ChannelSplit, x: Array) -> Array:
    """What the columns hold of x [..., C], in FP64."""
    scaled = x[..., split.source] / split.times / split.affine.scale
    middle = (split.times - 1) / 2
    return np.clip(np.rint(scaled + (split.index - middle) / split.times), -128, 127)


@given(
    st.integers(1, 40),
    st.lists(st.floats(-6000, 6000, allow_subnormal=False), min_size=1, max_size=50),
)
def test_the_columns_of_a_channel_add_up_to_its_rounding(times: int, steps: list[float]) -> None:
    x = np.array(steps)
    x = x[np.abs(np.abs(x - np.rint(x)) - 0.5) > 1e-6]  # ties go either way
    index = np.arange(times)
    split = ChannelSplit(
        Affine(1.0, 128), np.zeros(times, int), np.zeros(times, int), np.full(times, times), index
    )
    total = codes_of(split, x[:, None]).sum(axis=-1)
    inside = np.abs(x) < 127 * times - 0.5
    np.testing.assert_array_equal(total[inside], np.rint(x[inside]))
    # beyond the range it stands still at the end, and never turns round
    assert (np.abs(total[~inside]) >= 127 * times - 1).all()
    assert (np.sign(total[~inside]) == np.sign(x[~inside])).all()


@given(st.integers(1, 40), st.floats(1e-4, 10))
def test_factors_and_shifts_are_those_of_the_definition(times: int, step: float) -> None:
    index = np.arange(times)
    zeros = np.zeros(times, int)
    split = ChannelSplit(Affine(step, 128), zeros, zeros, np.full(times, times), index)
    np.testing.assert_allclose(split.factors, 1 / times, rtol=1e-6)
    np.testing.assert_allclose(split.shifts.sum(), 0, atol=1e-5 * step * times)
    np.testing.assert_allclose(np.diff(split.shifts), step / times, rtol=1e-3)


def grouped(*scales: float, width: int = 64, outliers: tuple[float, ...] = ()) -> Grouped:
    """A wide group and others of four channels, then outlier channels with their peaks."""
    rest = 4 * (len(scales) - 1) + len(outliers)
    groups = [tuple(range(width - rest))]
    for at in range(width - rest, width - len(outliers), 4):
        groups.append(tuple(range(at, at + 4)))
    last = tuple(range(width - len(outliers), width))
    return Grouped(tuple(groups), tuple(Affine(s, 128) for s in scales), last, outliers)


def times_of(split: ChannelSplit) -> dict[int, int]:
    return {int(row): int((split.rows == row).sum()) for row in split.rows if row >= 0}


def test_a_group_stands_as_often_as_its_range_needs() -> None:
    split, slim, outliers = split_channels(grouped(0.5, 1.0, 1.2), 64, 1, whole=True)
    times = times_of(split)
    assert [times[0], times[56], times[60]] == [1, 2, 3]
    assert (slim, outliers) == ([], ())
    assert list(split.source[:64]) == list(range(64))  # channels in order, then the further columns
    assert len(split.source) == 64 + 4 + 8


def test_the_step_grows_a_little_where_that_saves_columns() -> None:
    split, _, _ = split_channels(grouped(0.5, 1.05), 64, 1, whole=True)
    assert times_of(split)[60] == 2
    assert 0.525 <= split.affine.scale < 0.526
    split, _, _ = split_channels(grouped(0.5, 1.25), 64, 1, whole=True)  # 0.625 is too coarse
    assert times_of(split)[60] == 3 and split.affine.scale == 0.5


def test_what_needs_too_many_columns_keeps_a_product() -> None:
    treatment = grouped(0.5, 20.0, outliers=(70.0, 10_000.0))
    split, slim, outliers = split_channels(treatment, 64, 1, whole=True)
    assert [group for group, _ in slim] == [treatment.groups[1]]
    assert outliers == (63,)
    assert times_of(split)[62] == 2  # 70 and a quarter more, of 63.5 a column
    assert len(split.source) - 64 <= MOST_SHARE * 64


def test_outlier_channels_of_unknown_range_stay_in_float() -> None:
    treatment = Grouped((tuple(range(62)),), (Affine(0.5, 128),), (62, 63))
    split, _, outliers = split_channels(treatment, 64, 1, whole=True)
    assert outliers == (62, 63)
    assert list(split.rows[62:64]) == [-1, -1] and not split.is_split


def test_a_finer_group_keeps_its_steps() -> None:
    _, slim, _ = split_channels(grouped(0.5, 0.1), 64, 1, whole=True)
    assert len(slim) == 1
    split, slim, _ = split_channels(grouped(0.5, 0.3), 64, 1, whole=True)
    assert slim == [] and times_of(split)[60] == 1


@pytest.mark.parametrize("whole", [True, False])
def test_columns_are_a_multiple(whole: bool) -> None:
    split, _, _ = split_channels(grouped(0.5, 1.0), 64, 32, whole=whole)
    assert len(split.source) == 96
    assert (split.rows == -1).sum() == 28
    codes = codes_of(split, np.zeros((1, 64)))
    assert not codes[:, split.rows == -1].any()


def test_a_product_of_an_odd_width_is_filled_up_where_it_is_picked() -> None:
    cuts = GemmConstraints(repeats=False, multiple=32, splits=True)
    split = grouped_gemm(grouped(0.5, 1.0, width=60), cuts).split
    assert split is not None and len(split.source) == 64
    split = grouped_gemm(grouped(0.5, 0.5, width=60), cuts).split  # nothing to pick
    assert split is not None and len(split.source) == 60


def test_scales_are_those_that_fp16_holds() -> None:
    split, _, _ = split_channels(grouped(0.1, 0.21), 64, 1, whole=True)
    assert split.affine.scale == float(np.float16(split.affine.scale))
