"""Expected noise against the noise of products that are really quantized."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qdeploy.calibrate.affine import affine_from_range, dequantize, quantize
from qdeploy.calibrate.affine import quantize_weight as int8
from qdeploy.calibrate.noise import NoiseModel, decibels
from qdeploy.calibrate.ranges import minmax
from qdeploy.calibrate.schemes import SCHEMES
from tests.calibrate.conftest import Synthetic
from tests.tolerances import NOISE_MODEL_DB

QUIET, LOUD = "layer.0.joined", "layer.0.norm1.out"  # without and with an outlier channel


def share_of(error: Any, output: Any) -> float:
    """Power of the error over the variance of the output, both summed over channels."""
    return float(np.square(error).mean(axis=0).sum() / output.var(axis=0).sum())


def quantized(x: Any, bounds: tuple[float, float], scheme: str) -> Any:
    affine = affine_from_range(*bounds, scheme)
    return dequantize(quantize(x, affine.scale, affine.zero_point), affine.scale, affine.zero_point)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("tensor", [QUIET, LOUD])
def test_activation_noise(synthetic: Synthetic, tensor: str, scheme: str) -> None:
    site = synthetic.structure.by_tensor[tensor]
    (gemm,) = synthetic.structure.consumers(tensor)
    x, weight = synthetic.data[tensor], synthetic.weights[gemm.weight]
    bounds = minmax(synthetic.statistics[tensor])
    measured = share_of((quantized(x, bounds, scheme) - x) @ weight, x @ weight)
    plan = synthetic.context(activations=scheme).per_tensor(site, bounds, "test")
    assert plan.sqnr_db == pytest.approx(decibels(measured), abs=NOISE_MODEL_DB)


def test_noise_of_each_channels_own_step(synthetic: Synthetic) -> None:
    site = synthetic.structure.by_tensor[LOUD]
    (gemm,) = synthetic.structure.consumers(LOUD)
    x, weight = synthetic.data[LOUD], synthetic.weights[gemm.weight]
    steps = np.random.default_rng(1).uniform(0.02, 0.3, site.channels)
    steps[3] = 0.0  # stays in float
    back = x.copy()
    used = steps > 0
    back[:, used] = np.rint(x[:, used] / steps[used]) * steps[used]
    measured = share_of((back - x) @ weight, x @ weight)
    expected = synthetic.context().noise.share(site, steps)
    assert decibels(expected) == pytest.approx(decibels(measured), abs=NOISE_MODEL_DB)


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("tensor", [QUIET, LOUD])
def test_weight_noise(synthetic: Synthetic, tensor: str, per_channel: bool) -> None:
    (gemm,) = synthetic.structure.consumers(tensor)
    rng = np.random.default_rng(2)
    x, noise = synthetic.data[tensor], []
    output = x @ synthetic.weights[gemm.weight]
    for _ in range(20):  # one weight has too few errors to average over: draw it anew
        weight = synthetic.weights[gemm.weight] + 0
        weight += rng.uniform(-1e-2, 1e-2, weight.shape).astype(np.float32)
        codes, scale = int8(weight, per_channel=per_channel)
        noise.append(share_of(x @ (codes * scale - weight), output))
    context = synthetic.context(weights="per-channel" if per_channel else "per-tensor")
    expected = context.noise.weight_noise(synthetic.structure.by_tensor[tensor])
    assert decibels(expected) == pytest.approx(decibels(float(np.mean(noise))), abs=2.0)


def test_a_shared_input_counts_the_mean_of_its_readers(synthetic: Synthetic) -> None:
    tensor = "embeddings.norm.out"
    site, gemms = synthetic.structure.by_tensor[tensor], synthetic.structure.consumers(tensor)
    assert [g.name for g in gemms] == ["layer.0.query", "layer.0.key", "layer.0.value"]
    shares = []
    for gemm in gemms:
        weight = synthetic.weights[gemm.weight].astype(np.float64)
        variance = synthetic.statistics[gemm.output].variance.sum()
        shares.append(np.square(weight).sum(axis=1) / variance)
    found = synthetic.context().noise.channel_weight(site)
    np.testing.assert_allclose(found, np.mean(shares, axis=0), rtol=1e-9)


def test_without_a_reader_noise_is_a_share_of_the_site(synthetic: Synthetic) -> None:
    tensor = "layer.0.sum1"
    site, x = synthetic.structure.by_tensor[tensor], synthetic.data[tensor]
    bounds = minmax(synthetic.statistics[tensor])
    measured = share_of(quantized(x, bounds, "asymmetric") - x, x)
    context = synthetic.context(scope="all")
    found = context.per_tensor(site, bounds, "test").sqnr_db
    assert found == pytest.approx(decibels(measured), abs=NOISE_MODEL_DB)
    assert context.noise.weight_noise(site) == 0


def test_an_output_that_was_not_observed_is_estimated(synthetic: Synthetic) -> None:
    (gemm,) = synthetic.structure.consumers(QUIET)
    known = {t: s for t, s in synthetic.statistics.items() if t != gemm.output}
    site = synthetic.structure.by_tensor[QUIET]

    def share(statistics: Any) -> float:
        noise = NoiseModel(
            synthetic.structure,
            statistics,
            synthetic.weights,
            per_channel_weights=True,
        )
        return decibels(noise.share(site, np.full(site.channels, 0.1)))

    assert share(known) == pytest.approx(share(synthetic.statistics), abs=NOISE_MODEL_DB)


def test_decibels() -> None:
    assert [decibels(s) for s in (1.0, 0.1, 0.002, 0.0)] == [0.0, 10.0, 26.99, 200.0]
