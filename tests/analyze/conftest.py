"""Encoders of the calibration's tests."""

from __future__ import annotations

from tests.calibrate.conftest import model_dir, synthetic

__all__ = ["model_dir", "synthetic"]
