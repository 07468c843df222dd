"""Encoders of the calibration's tests."""

from __future__ import annotations

from tests.calibrate.conftest import exported, model_dir, synthetic

__all__ = ["exported", "model_dir", "synthetic"]
