"""Scale and zero point: what must hold for every range, and the codes against a second writing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdeploy.calibrate.affine import (
    MIDDLE,
    PAIR_LIMIT,
    SMALLEST_SCALE,
    affine_from_range,
    dequantize,
    pair_peak,
    quantize,
    quantize_weight,
)
from qdeploy.calibrate.schemes import ASYMMETRIC, SCHEMES, SYMMETRIC
from qdeploy.errors import PlanError
from tests.tolerances import (
    GAUSSIAN_SQNR_FLOOR_DB,
    GAUSSIAN_SYMMETRIC_SQNR_FLOOR_DB,
    STEP_ROUNDING,
    WEIGHT_SQNR_FLOOR_DB,
)

edges = st.floats(-1e6, 1e6, allow_nan=False, width=32)
ranges = st.tuples(edges, edges).map(lambda pair: (min(pair), max(pair)))
schemes = st.sampled_from(SCHEMES)


def sqnr_db(x: Any, back: Any) -> float:
    """Power of the signal over power of the error."""
    error = np.square(x.astype(np.float64) - back).mean()
    return float(10 * np.log10(np.square(x, dtype=np.float64).mean() / error))


@given(ranges, schemes)
def test_scale_is_positive_and_zero_is_exact(bounds: tuple[float, float], scheme: str) -> None:
    affine = affine_from_range(*bounds, scheme)
    assert affine.scale >= np.float32(SMALLEST_SCALE) and math.isfinite(affine.scale)
    assert affine.scale == np.float32(affine.scale)  # what is written into the graph is FP32
    assert isinstance(affine.zero_point, int) and 0 <= affine.zero_point <= 255
    zero = np.zeros(1, np.float32)
    code = quantize(zero, affine.scale, affine.zero_point)
    assert code[0] == affine.zero_point
    assert dequantize(code, affine.scale, affine.zero_point)[0] == 0.0


@given(ranges, schemes, st.integers(0, 2**31))
def test_codes_keep_the_order(bounds: tuple[float, float], scheme: str, seed: int) -> None:
    low, high = bounds
    affine = affine_from_range(low, high, scheme)
    spread = max(abs(low), abs(high), 1.0)
    x = np.sort(np.random.default_rng(seed).uniform(-2 * spread, 2 * spread, 64))
    codes = quantize(x.astype(np.float32), affine.scale, affine.zero_point)
    assert codes.dtype == np.uint8
    assert (np.diff(codes.astype(int)) >= 0).all()


@given(ranges, schemes)
def test_every_code_survives_the_way_back(bounds: tuple[float, float], scheme: str) -> None:
    affine = affine_from_range(*bounds, scheme)
    codes = np.arange(256, dtype=np.uint8)
    values = dequantize(codes, affine.scale, affine.zero_point)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(quantize(values, affine.scale, affine.zero_point), codes)


@given(ranges, schemes, st.integers(0, 2**31))
def test_error_inside_the_range_is_half_a_step(
    bounds: tuple[float, float], scheme: str, seed: int
) -> None:
    low, high = bounds
    affine = affine_from_range(low, high, scheme)
    inner = np.random.default_rng(seed).uniform(low, high, 64)
    x = np.concatenate([[low, high], inner]).astype(np.float32)
    back = dequantize(quantize(x, affine.scale, affine.zero_point), affine.scale, affine.zero_point)
    assert np.abs(x - back).max() <= (0.5 + STEP_ROUNDING) * affine.scale


@given(ranges)
def test_symmetric_is_int8_with_128_added(bounds: tuple[float, float]) -> None:
    affine = affine_from_range(*bounds, SYMMETRIC)
    assert affine.zero_point == MIDDLE == 128
    peak = np.float32(max(abs(bounds[0]), abs(bounds[1])))
    x = np.array([-peak, peak], np.float32)
    codes = quantize(x, affine.scale, affine.zero_point).astype(int) - 128
    if peak > 127 * SMALLEST_SCALE:
        assert codes.tolist() == [-127, 127]


def test_asymmetric_uses_all_codes() -> None:
    affine = affine_from_range(-1.0, 3.0, ASYMMETRIC)
    x = np.array([-1.0, 0.0, 3.0], np.float32)
    assert quantize(x, affine.scale, affine.zero_point).tolist() == [0, 64, 255]
    one_sided = affine_from_range(2.0, 5.1, ASYMMETRIC)  # widened to [0, 5.1]
    assert one_sided.zero_point == 0 and one_sided.scale == pytest.approx(0.02, rel=1e-6)


def test_rounding_is_half_to_even_as_in_onnx() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)
    assert quantize(x, 1.0, 10).tolist() == [10, 12, 12, 10, 8]


def test_scales_per_channel_broadcast() -> None:
    scale, zero_point = np.array([1, 0.5], np.float32), np.array([0, 128], np.uint8)
    x = np.array([[3.0, 3.0], [7.4, -3.0]], np.float32)
    codes = quantize(x, scale, zero_point)
    assert codes.tolist() == [[3, 134], [7, 122]]
    assert dequantize(codes, scale, zero_point).tolist() == [[3, 3], [7, -3]]


@pytest.mark.parametrize(
    "bounds", [(math.nan, 1.0), (0.0, math.inf), (-math.inf, 0.0), (1.0, -1.0)], ids=str
)
def test_a_bad_range_is_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(PlanError, match=r"finite and ordered, and \[.*\] is not.*NaN or infinity"):
        affine_from_range(*bounds, ASYMMETRIC)


@pytest.mark.parametrize("per_channel", [True, False])
def test_weights_against_a_second_writing(per_channel: bool) -> None:
    rng = np.random.default_rng(1)
    weight = (rng.normal(size=(24, 10)) * rng.uniform(0.1, 5, 10)).astype(np.float32)
    weight[:, 3] = 0  # a dead output channel
    codes, scale = quantize_weight(weight, per_channel=per_channel)
    assert codes.dtype == np.int8 and scale.dtype == np.float32
    assert scale.shape == ((10,) if per_channel else (1,))
    for column in range(10):
        values = [float(v) for v in (weight[:, column] if per_channel else weight.ravel())]
        peak = max(abs(v) for v in values)
        step = max(np.float32(peak) / np.float32(127), np.float32(1e-12))
        assert scale[column if per_channel else 0].tobytes() == step.tobytes()
        for row in range(24):
            # Python's round is half to even, too
            expected = round(float(weight[row, column] / step))
            assert codes[row, column] == expected and -127 <= expected <= 127


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.booleans(), st.floats(0.0, 3.0))
def test_pairs_add_up_in_16_bits(seed: int, rows: int, per_channel: bool, mean: float) -> None:
    """As VPMADDUBSW adds them, with the activations that reach furthest."""
    rng = np.random.default_rng(seed)
    weight = (rng.normal(mean, 1, (rows, 5)) * rng.uniform(0.01, 9, 5)).astype(np.float32)
    codes, scale = quantize_weight(weight, per_channel=per_channel, fits_16_bits=True)
    padded = np.concatenate([codes, np.zeros((rows % 2, 5), np.int8)]).astype(np.int32)
    products = 255 * padded
    for lower, upper in ((0, None), (None, 0)):  # the codes of one sign meet 255, the others 0
        sums = np.clip(products, lower, upper).reshape(-1, 2, 5).sum(axis=1)
        assert sums.max() <= 2**15 - 1 and sums.min() >= -(2**15)
    # no wider than it needs: as it was, or a pair within one step of the limit
    plain = quantize_weight(weight, per_channel=per_channel)[1]
    widened = scale > plain * 1.001
    peak = pair_peak(codes)
    assert (peak if per_channel else peak.max(keepdims=True))[widened].min(initial=128) >= 127


def test_halves_that_are_both_rounded_up() -> None:
    weight = np.array([[64.5000001], [63.5000001], [-63.5], [-64.5]]) / 64
    codes, _ = quantize_weight(weight.astype(np.float32), per_channel=True, fits_16_bits=True)
    assert pair_peak(codes) <= PAIR_LIMIT


def test_signal_to_noise_floors() -> None:
    rng = np.random.default_rng(0)
    x = np.clip(rng.normal(size=100_000), -4.5, 4.5).astype(np.float32)
    floors = {
        ASYMMETRIC: GAUSSIAN_SQNR_FLOOR_DB,
        SYMMETRIC: GAUSSIAN_SYMMETRIC_SQNR_FLOOR_DB,
    }
    for scheme, floor in floors.items():
        affine = affine_from_range(-4.5, 4.5, scheme)
        parameters = affine.scale, affine.zero_point
        assert sqnr_db(x, dequantize(quantize(x, *parameters), *parameters)) > floor
    weight = (rng.normal(size=(256, 64)) * rng.uniform(0.1, 5, 64)).astype(np.float32)
    found = {}
    for per_channel in (True, False):
        codes, scale = quantize_weight(weight, per_channel=per_channel)
        found[per_channel] = sqnr_db(weight, codes.astype(np.float32) * scale)
    assert found[True] > WEIGHT_SQNR_FLOOR_DB
    assert found[True] > found[False] + 2  # what a scale per channel is for
