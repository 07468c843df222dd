"""The diagnosis of GPU targets on machines that lack something; the test GEMMs' numbers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qdeploy.deploy import doctor, trial
from qdeploy.deploy.engine import KernelTime
from qdeploy.deploy.targets.ort_cuda import check as ort_cuda
from qdeploy.deploy.targets.ort_cuda import rules as cuda_rules
from qdeploy.deploy.targets.ort_tensorrt import check as ort_tensorrt
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.deploy.targets.tensorrt import api as tensorrt_api
from qdeploy.deploy.targets.tensorrt import check as tensorrt
from qdeploy.deploy.targets.tensorrt import rules as tensorrt_rules
from qdeploy.errors import TargetError
from qdeploy.machine.remedies import install_command
from tests.modules import importing

FOUND = {"name": "Test GPU", "compute_capability": "8.9", "int8_tensor_cores": True}
INT8 = KernelTime("gemm", "i8_kernel", 1.0, 1, int8=True)
HALF = KernelTime("gemm", "half_kernel", 1.0, 1, fallback_reason="it reads Half")
PROVIDERS = ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
CHECKS: dict[str, Any] = {"tensorrt": tensorrt, "ort-tensorrt": ort_tensorrt, "ort-cuda": ort_cuda}


class Package:
    __version__ = "10.16.1"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every package is there, and so is a GPU; what the test GEMM does is not."""
    monkeypatch.setattr(tensorrt_api.Library, "package", lambda self: Package)
    monkeypatch.setattr(ort, "get_available_providers", lambda: PROVIDERS)
    monkeypatch.setattr(trial, "device", lambda: FOUND)
    return monkeypatch


@pytest.mark.parametrize("target", CHECKS)
def test_an_int8_kernel_is_the_proof(target: str, installed: pytest.MonkeyPatch) -> None:
    installed.setattr(CHECKS[target], "attempt", lambda _: INT8)
    health = TARGETS[target].diagnose()
    assert health.works and "Test GPU, INT8 kernel i8_kernel" in health.detail
    assert health.remedy == ""


@pytest.mark.parametrize("target", CHECKS)
def test_a_gemm_in_float_is_said(target: str, installed: pytest.MonkeyPatch) -> None:
    installed.setattr(CHECKS[target], "attempt", lambda _: HALF)
    health = TARGETS[target].diagnose()
    assert not health.works
    assert "in float (half_kernel: it reads Half)" in health.detail and health.remedy


@pytest.mark.parametrize("target", CHECKS)
def test_whatever_breaks_is_the_diagnosis(target: str, installed: pytest.MonkeyPatch) -> None:
    def broken(_: Path) -> KernelTime:
        raise RuntimeError("libcudnn.so.9 is missing")

    installed.setattr(CHECKS[target], "attempt", broken)
    health = TARGETS[target].diagnose()
    assert not health.works
    assert "libcudnn.so.9 is missing" in health.detail and "pip install" in health.remedy


@pytest.mark.parametrize("target", CHECKS)
def test_no_gpu_is_told_apart_from_no_package(target: str, installed: pytest.MonkeyPatch) -> None:
    def none() -> Any:
        raise TargetError("CUDA: no GPU.")

    installed.setattr(trial, "device", none)
    installed.setattr(doctor, "device", none)
    health = TARGETS[target].diagnose()
    assert not health.works
    assert "no GPU" in health.detail and "driver" in health.remedy
    assert doctor.gpu() == {"found": False, "reason": "CUDA: no GPU."}


def test_missing_packages_name_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: tensorrt_api.Library) -> Any:
        raise TargetError("tensorrt cannot be imported: no module.")

    monkeypatch.setattr(tensorrt_api.Library, "package", missing)
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    commands = {
        "tensorrt": install_command("tensorrt"),
        "ort-cuda": install_command("gpu"),
        "ort-tensorrt": install_command("gpu", "tensorrt", packages=("tensorrt<11",)),
    }
    for name, command in commands.items():
        health = TARGETS[name].diagnose()
        assert not health.works
        assert command in health.remedy


def test_a_folder_of_that_name_is_not_the_package(tmp_path: Path) -> None:
    """An engine directory is easily called after its target."""
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("the package is here")
    (tmp_path / "tensorrt").mkdir()
    with importing(tmp_path), pytest.raises(TargetError, match="rename that one"):
        tensorrt_api.TENSORRT.package()


def test_no_kernel_is_no_proof() -> None:
    with pytest.raises(TargetError, match="no kernel"):
        trial.only([])


@pytest.mark.parametrize("integer", [False, True])
def test_the_test_gemm_computes_what_it_says_and_keeps_the_rules(
    integer: bool, tmp_path: Path
) -> None:
    model = trial.half_gemm(integer=integer)
    ir.save(model, tmp_path / "gemm.onnx")
    session = ort.InferenceSession(tmp_path / "gemm.onnx", providers=["CPUExecutionProvider"])
    x = np.ones((256, 512), np.float32)
    (found,) = session.run(None, {"x": x})
    expected = 512 * 10 if integer else 512 * 0.1  # ten steps of a tenth, times a tenth
    np.testing.assert_allclose(found, np.full((256, 512), expected), rtol=2e-3)
    rules = cuda_rules if integer else tensorrt_rules
    assert rules.broken_rules(ir.load(tmp_path / "gemm.onnx")) == []
