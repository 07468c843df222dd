"""The expected drop of a noise: no more than it costs, and told from luck."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qdeploy.evaluate.heldout import DropEstimate, estimate_drop


def rows(n: int = 4000, seed: int = 0) -> tuple[Any, Any]:
    """Logits of a model that is right the more often the surer it is, and the truth."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 2, n)
    logits = np.stack([-margin / 2, margin / 2], axis=1).astype(np.float32)
    truth = (rng.random(n) < 1 / (1 + np.exp(-2 * margin))).astype(int)
    return logits, truth


def test_nothing_changed_costs_nothing() -> None:
    logits, truth = rows()
    found = estimate_drop(logits, logits, truth)
    assert found.expected_drop == found.measured_drop == 0 and found.holds(0)


def test_the_expected_drop_is_that_of_many_engines() -> None:
    """Engines with equal noise differ by luck; the estimate from one is near their mean."""
    logits, truth = rows()
    drops, estimates = [], []
    for seed in range(30):
        noise = np.random.default_rng(seed + 1).normal(0, 0.4, logits.shape)
        found = estimate_drop(logits, (logits + noise).astype(np.float32), truth)
        drops.append(found.measured_drop)
        estimates.append(found.expected_drop)
    assert np.mean(estimates) == pytest.approx(np.mean(drops), abs=0.1)
    assert np.std(estimates) < np.std(drops) / 2


def test_without_labels_every_flip_counts() -> None:
    logits, truth = rows()
    noisy = logits + np.random.default_rng(1).normal(0, 0.4, logits.shape).astype(np.float32)
    assert (
        estimate_drop(logits, noisy, None).expected_drop
        > 2 * estimate_drop(logits, noisy, truth).expected_drop
    )


def test_a_constant_predictor_is_seen_though_its_noise_is_drawn_anew() -> None:
    logits, truth = rows()
    constant = np.tile(np.array([1.0, 0.0], np.float32), (len(logits), 1))
    found = estimate_drop(logits, constant, truth)
    assert found.measured_drop > 20 and not found.holds(5)


def test_more_classes() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (500, 5)).astype(np.float32)
    truth = logits.argmax(axis=1)
    noise = rng.normal(0, 1, logits.shape).astype(np.float32)
    found = estimate_drop(logits, logits + noise, truth)
    assert found.expected_drop == pytest.approx(found.measured_drop, abs=3 * found.standard_error)


def test_both_the_expected_and_the_measured_drop_must_hold() -> None:
    assert DropEstimate(0.2, 0.5, 0.2, 30).holds(0.3)  # 0.5 is luck, as far as these rows can tell
    assert not DropEstimate(0.2, 0.9, 0.2, 30).holds(0.3)
    assert not DropEstimate(0.4, 0.0, 0.2, 30).holds(0.3)
