"""An FP32 file and a quantized one of it, as a repository has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.against.files import hub, quantized


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hub(tmp_path_factory.mktemp("hub") / "exact", 1)


@pytest.fixture(scope="module")
def file(exact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantized(exact, "dynamic-tensor", tmp_path_factory.mktemp("quantized") / "q.onnx")
