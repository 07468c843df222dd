"""Roundings against the pure functions of calibrate/, and what they are made of."""

from __future__ import annotations

import numpy as np
import pytest

from qdeploy.analyze.rounding import rounding_of, roundings_of
from qdeploy.calibrate.affine import Affine, dequantize, quantize
from qdeploy.calibrate.plan import Float, Grouped, PerTensor
from qdeploy.calibrate.strategies import make_plan
from tests.calibrate.conftest import Synthetic

X = (np.random.default_rng(0).normal(size=(3, 50, 4)) * [1, 4, 0.1, 30]).astype(np.float32)


@pytest.mark.parametrize(("scale", "zero"), [(0.3, 0), (0.07, 128), (1e-12, 255)])
def test_one_scale_is_quantize_and_back(scale: float, zero: int) -> None:
    rounding = rounding_of(PerTensor(Affine(scale, zero)), 4)
    assert rounding is not None
    before = X.copy()
    expected = dequantize(quantize(X, scale, zero), scale, zero)
    np.testing.assert_array_equal(rounding.apply(X), expected)
    np.testing.assert_array_equal(X, before)  # what others read stays as it was


def test_groups_and_outlier_channels() -> None:
    grouped = Grouped(((0, 2), (1,)), (Affine(0.02, 120), Affine(0.1, 100)), (3,))
    rounding = rounding_of(grouped, 4)
    assert rounding is not None
    found = rounding.apply(X)
    for channels, affine in (([0, 2], grouped.affines[0]), ([1], grouped.affines[1])):
        x = X[..., channels]
        expected = dequantize(quantize(x, *vars(affine).values()), *vars(affine).values())
        np.testing.assert_array_equal(found[..., channels], expected)
    np.testing.assert_array_equal(found[..., 3], X[..., 3])


def test_factors_in_front_of_one_scale_are_a_scale_per_channel() -> None:
    factors = (1.0, 0.25, 8.0, 1 / 32)  # powers of two: exact
    rounding = rounding_of(PerTensor(Affine(0.02, 128), factors), 4)
    assert rounding is not None
    f = np.array(factors, np.float32)
    expected = dequantize(quantize(X * f, 0.02, 128), 0.02, 128) / f
    np.testing.assert_allclose(rounding.apply(X), expected, rtol=1e-6)


def test_a_plan_leaves_its_floats_out(synthetic: Synthetic) -> None:
    assert rounding_of(Float(), 4) is None
    names = [site.name for site in synthetic.structure.sites][:2]
    context = synthetic.context(scope="all", float_sites=tuple(names))
    channels = {site.tensor: site.channels for site in context.sites}
    found = roundings_of(make_plan("w8a8", context), channels)
    assert len(found) == len(channels) - 2
