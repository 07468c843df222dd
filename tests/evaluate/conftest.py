"""An evaluation without ONNX Runtime: the bag-of-words engine behind the same interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qdeploy.deploy import certificate
from qdeploy.evaluate import loaded_engine as subject
from qdeploy.evaluate import stages
from tests.evaluate.bag import load_bag

INT8: dict[str, Any] = {
    "planned": 4,
    "executed": 3,
    "planned_share": 0.9,
    "executed_share": 0.8,
    "flops_share": 0.75,
    "short": "90 %, 3/4, 75 %",
    "summary": "90 % of all constant-weight FLOPs planned, 3/4 planned GEMMs ran",
    "unplanned": [
        {"site": "conv", "kernel": "Conv", "reason": "Conv is not planned", "flops_share": 0.1}
    ],
    "fallbacks": [{"site": "pooler", "kernel": "MatMul", "reason": "2-D input"}],
    "flops_measured": True,
    "gemms": {},
    "kernels": {"MatMulIntegerToFloat": 3, "MatMul": 1},
}


@pytest.fixture
def numpy_engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Engines compute in numpy; the INT8 check answers with the dict that is returned here."""
    int8 = dict(INT8)
    monkeypatch.setattr(certificate, "check_int8", lambda *_: int8)
    monkeypatch.setattr(subject, "open_engine", load_bag)

    def peak(directory: Path, **_: Any) -> dict[str, float]:
        return {"peak": 50.0, "interpreter": 30.0}

    monkeypatch.setattr(stages, "peak_memory", peak)
    return int8
