"""Contexts of the hand-written encoder, and exported encoders of real families, made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.calibrate.context import Context, weights_of
from qdeploy.calibrate.observer import SiteStatistics
from qdeploy.calibrate.options import PlanOptions
from qdeploy.graph.sites import find_structure
from qdeploy.graph.structure import LAYER_NORM, Structure
from tests.calibrate.encoder import OUTLIER, encoder, model_directory

ROWS = 2000


@dataclass(frozen=True)
class Synthetic:
    """The small encoder with drawn activations: unit Gaussian, LayerNorms with one channel at 60.

    Attributes:
        data: FP32 [rows, C] by tensor name.
    """

    model: ir.Model
    structure: Structure
    data: dict[str, Any]
    statistics: dict[str, SiteStatistics]
    weights: dict[str, Any]

    def context(self, **options: Any) -> Context:
        return Context(self.structure, self.statistics, self.weights, PlanOptions(**options))


@pytest.fixture(scope="session")
def synthetic() -> Synthetic:
    model = encoder()
    structure = find_structure(model)
    weights = weights_of(model, structure)
    rng = np.random.default_rng(0)
    data = {
        s.tensor: rng.normal(size=(ROWS, s.channels)).astype(np.float32) for s in structure.sites
    }
    for site in structure.sites:
        if LAYER_NORM in site.roles:
            data[site.tensor][:, OUTLIER] += 60
    for gemm in structure.gemms:  # outputs are what the products give
        if gemm.output in data:
            data[gemm.output] = data[gemm.input] @ weights[gemm.weight]
    statistics = {}
    for tensor, x in data.items():
        statistics[tensor] = SiteStatistics.empty(x.shape[1])
        statistics[tensor].update(x)
    return Synthetic(model, structure, data, statistics, weights)


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    """A model directory of the small encoder, for the test to damage."""
    return model_directory(tmp_path / "model")
