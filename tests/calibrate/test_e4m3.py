"""FP8: rounding, scales and expected noise, against all 256 codes and against real products."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from qdeploy.calibrate.affine import Affine, affine_from_range
from qdeploy.calibrate.checks import affine_range, check_signs
from qdeploy.calibrate.e4m3 import (
    E4M3_TYPE,
    RELATIVE_ERROR,
    e4m3_scales,
    error_variance,
    round_e4m3,
)
from qdeploy.calibrate.noise import decibels
from qdeploy.calibrate.plan import PerTensor, Plan
from qdeploy.calibrate.schemes import E4M3
from qdeploy.calibrate.strategies import make_plan
from qdeploy.errors import PlanError, QDeployWarning
from tests.calibrate.conftest import Synthetic
from tests.calibrate.test_noise import LOUD, QUIET, share_of
from tests.tolerances import NOISE_MODEL_DB


def values_of_codes() -> Any:
    """What the codes 0 … 126 and their negatives stand for, written out (arXiv 2209.05433)."""
    codes = np.arange(127)
    exponent, mantissa = codes >> 3, codes & 7
    normal = np.exp2(exponent - 7.0) * (1 + mantissa / 8)
    found = np.where(exponent == 0, mantissa * 2.0**-9, normal)
    return np.concatenate([-found[::-1], found]).astype(np.float32)


def test_every_code_is_its_own_rounding() -> None:
    values = values_of_codes()
    assert values.max() == 448
    np.testing.assert_array_equal(round_e4m3(values, 1.0).astype(np.float32), values)


def test_halves_go_to_the_even_code_and_the_rest_to_the_nearest() -> None:
    values = np.unique(values_of_codes())
    middle = (values[1:] + values[:-1]) / 2
    codes = round_e4m3(middle, 1.0)
    assert not (codes.view(np.uint8) & 1).any()
    x = np.random.default_rng(0).normal(size=5000).astype(np.float32) * 100
    nearest = values[np.abs(x[:, None] - values).argmin(axis=1)]
    np.testing.assert_array_equal(round_e4m3(x, 1.0).astype(np.float32), nearest)


def test_what_is_beyond_the_range_saturates() -> None:
    found = round_e4m3(np.array([1e6, -465.0, 448.1, 464.0], np.float32), 1.0)
    np.testing.assert_array_equal(found.astype(np.float32), [448, -448, 448, 448])


def test_a_scale_puts_the_peak_on_the_largest_code() -> None:
    assert affine_from_range(-7.0, 3.5, E4M3) == Affine(float(np.float32(7 / 448)), 0)
    assert affine_from_range(0.0, 0.0, E4M3).scale > 0
    assert affine_range(Affine(0.5, 0), E4M3) == (-224, 224)
    weight = np.array([[1.0, -2.0], [0.5, 8.0]], np.float32)
    np.testing.assert_allclose(e4m3_scales(weight, per_channel=True), [1 / 448, 8 / 448])
    np.testing.assert_allclose(e4m3_scales(weight, per_channel=False), [8 / 448])


@pytest.mark.parametrize(
    "drawn",
    [
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: rng.normal(size=n) * np.exp(rng.normal(size=n)),
        lambda rng, n: np.where(rng.random(n) < 1e-3, 3000, 1) * rng.normal(size=n) * 0.01,
    ],
    ids=["gaussian", "heavy tails", "most below the normal codes"],
)
def test_the_expected_error_is_that_of_a_simulated_rounding(drawn: Any) -> None:
    x = drawn(np.random.default_rng(0), 200_000).astype(np.float32)
    scale = np.float32(np.abs(x).max() / 448)
    back = round_e4m3(x, scale).astype(np.float32) * scale
    measured = float(np.square(back - x, dtype=np.float64).mean())
    expected = float(error_variance(np.square(x, dtype=np.float64).mean(), scale))
    assert decibels(expected) == pytest.approx(decibels(measured), abs=0.5)


def test_an_operand_has_31_and_a_half_db() -> None:
    assert pytest.approx(0.180 * 2.0**-8, rel=0.005) == RELATIVE_ERROR
    assert decibels(RELATIVE_ERROR) == pytest.approx(31.5, abs=0.05)


@pytest.mark.parametrize("tensor", [QUIET, LOUD])
def test_noise_of_a_site(synthetic: Synthetic, tensor: str) -> None:
    (gemm,) = synthetic.structure.consumers(tensor)
    x, weight = synthetic.data[tensor], synthetic.weights[gemm.weight]
    site = make_plan("fp8", synthetic.context()).sites[tensor]
    assert isinstance(site.treatment, PerTensor)
    scale = np.float32(site.treatment.affine.scale)
    assert scale == np.float32(np.abs(x).max() / 448)
    back = round_e4m3(x, scale).astype(np.float32) * scale
    # errors of a channel at 60 ± 1 are less than its power says: it hardly leaves one octave
    most = NOISE_MODEL_DB if tensor == QUIET else 4.0
    measured = decibels(share_of((back - x) @ weight, x @ weight))
    assert site.sqnr_db == pytest.approx(measured, abs=most)


def test_the_plan_says_how_activations_are_coded(synthetic: Synthetic) -> None:
    plan = make_plan("fp8", synthetic.context())
    assert plan.activations == plan.options["activations"] == "e4m3"
    assert plan.tables == () and not plan.int8_gemms
    planned = [gemm.name for gemm in plan.gemms.values() if gemm.precision == "fp8"]
    assert plan.quantized_gemms == tuple(planned) and len(planned) > 4
    written = json.loads(json.dumps(plan.to_json()))
    assert Plan.from_json(written) == plan


def test_a_site_in_float_leaves_the_others_in_fp8(synthetic: Synthetic) -> None:
    whole = make_plan("fp8", synthetic.context())
    name = whole.sites[QUIET].name
    plan = make_plan("fp8", synthetic.context(float_sites=(name,)))
    assert set(plan.quantized_gemms) < set(whole.quantized_gemms)
    assert plan.activations == E4M3 and plan.sites[QUIET].treatment.kind == "float"


def test_what_fp8_has_no_use_for(synthetic: Synthetic) -> None:
    with pytest.raises(PlanError, match="fp8 is of scope gemm.*Leave --scope out"):
        make_plan("fp8", synthetic.context(scope="all"))
    with pytest.raises(PlanError, match="adds in INT8.*Leave it out"):
        make_plan("fp8", synthetic.context(int8_residuals=True))
    with pytest.warns(QDeployWarning, match="fp8 does not read --activations, --groups"):
        make_plan("fp8", synthetic.context(activations="symmetric", groups=4))


def test_a_lost_sign_is_none_of_a_range_around_zero(synthetic: Synthetic) -> None:
    check_signs("site", synthetic.statistics[LOUD], Affine(0.2, 0), E4M3)
    assert np.dtype(E4M3_TYPE).itemsize == 1
