"""The diagnosis of a machine: found by trying, with a remedy for what fails."""

from __future__ import annotations

import builtins
import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.deploy import doctor, doctor_cpu
from qdeploy.deploy.targets.ort_cpu import check as ort_cpu_check
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.machine.free_memory import memory
from qdeploy.machine.remedies import install_command
from tests.modules import importing

CPUINFO = """processor : 0
model name : Test CPU
flags : fpu avx512_vnni amx_int8

processor : 1
model name : Test CPU
flags : fpu avx512_vnni amx_int8
"""


def test_the_diagnosis_is_json_with_a_remedy_for_each_target_that_fails() -> None:
    report = json.loads(json.dumps(doctor.diagnose()))
    assert set(report) == {"targets", "cpu", "memory_mb", "gpu", "python", "versions", "notes"}
    assert set(report["targets"]) == set(TARGETS)
    for target in report["targets"].values():
        assert target["detail"]
        assert target["works"] or target["remedy"]


def test_ort_cpu_is_proved_by_the_kernel_that_ran() -> None:
    health = TARGETS["ort-cpu"].diagnose()
    assert health.works, health.detail
    assert "MatMulIntegerToFloat" in health.detail


def test_a_gemm_that_ran_in_float_is_no_working_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort_cpu_check, "kernels_that_ran", lambda _: ["MatMul"])
    health = TARGETS["ort-cpu"].diagnose()
    assert not health.works
    assert "in float" in health.detail
    assert health.remedy == f"Type: {install_command('cpu', options='--upgrade')}"


def test_a_missing_package_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    health = TARGETS["ort-cpu"].diagnose()
    assert not health.works
    assert "No module named 'onnxruntime'" in health.detail
    assert install_command("cpu", options="--upgrade") in health.remedy


def test_cpu_features_are_read_from_the_flags(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    features = doctor_cpu.cpu_features(tmp_path / "cpuinfo")
    assert features["model"] == "Test CPU"
    assert features["cores"] >= 1
    assert features["AVX512-VNNI"] is True
    assert features["AMX-INT8"] is True
    assert features["AVX-VNNI"] is False


@pytest.mark.parametrize("text", [None, "Processor : ARM\nFeatures : fp asimd\n"])
def test_features_that_nobody_can_tell_are_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert doctor_cpu.cpu_features(tmp_path / "cpuinfo")["AVX512-VNNI"] is None


MEMINFO = "MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:    8000000 kB\n"


@pytest.mark.parametrize(
    ("files", "total", "usable"),
    [
        ({}, 16384.0, 8192.0),
        ({"memory.max": "max", "memory.current": "5"}, 16384.0, 8192.0),
        ({"memory.max": "4000000000", "memory.current": "1000000000"}, 4000.0, 3000.0),
        ({"memory.max": "4000000000"}, 4000.0, 4000.0),
        ({"memory.max": "9000000000", "memory.current": "0"}, 9000.0, 8192.0),
        ({"memory/memory.limit_in_bytes": "2000000000",
          "memory/memory.usage_in_bytes": "2500000000"}, 2000.0, 0.0),
    ],
)  # fmt: skip
def test_memory_is_that_of_the_container(
    tmp_path: Path, files: dict[str, str], total: float, usable: float
) -> None:
    (tmp_path / "meminfo").write_text(MEMINFO)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = memory(tmp_path / "meminfo", tmp_path)
    assert found == {"total": total, "usable": usable}


@pytest.mark.parametrize("text", [None, "", "MemTotal: many kB", "MemTotal: 5 kB"])
def test_memory_that_nobody_can_tell_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    assert memory(tmp_path / "meminfo", tmp_path) == {"total": None, "usable": None}


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        (("onnxruntime", "onnxruntime-tools"), "pip uninstall -y onnxruntime-tools"),
        (("onnxruntime", "onnxruntime-gpu"), "overwrite each other's files"),
        (("onnxruntime",), ""),
    ],
)
def test_packages_that_break_others_are_said(
    monkeypatch: pytest.MonkeyPatch, installed: tuple[str, ...], said: str
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    notes = doctor._notes()
    assert len(notes) == (1 if said else 0)
    assert said in "".join(notes)


def test_a_broken_openvino_is_a_diagnosis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its import raises: a missing system library is no ImportError."""
    (tmp_path / "openvino.py").write_text("raise OSError('libopenvino.so: no such file')")
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    with importing(tmp_path):
        health = TARGETS["openvino"].diagnose()
    assert not health.works and "libopenvino.so" in health.detail and health.remedy


def quantized_gemm() -> ir.Model:
    """What qdeploy/deploy/gemm.onnx holds."""
    x = ir.Input("x", shape=ir.Shape((1, 2, 8)), type=ir.TensorType(ir.DataType.FLOAT))

    def constant(name: str, value: Any) -> ir.Value:
        tensor = ir.tensor(value, name=name)
        shape, dtype = ir.Shape(np.shape(value)), ir.TensorType(tensor.dtype)
        return ir.Value(name=name, const_value=tensor, shape=shape, type=dtype)

    scale, zero = constant("scale", np.float32(0.1)), constant("zero", np.uint8(128))
    weight = constant("weight", np.ones((8, 4), np.int8))
    weight_scale = constant("weight_scale", np.full(4, 0.1, np.float32))
    weight_zero = constant("weight_zero", np.zeros(4, np.int8))
    quantize = ir.node("QuantizeLinear", [x, scale, zero])
    dequantize = ir.node("DequantizeLinear", [quantize.outputs[0], scale, zero])
    weights = ir.node("DequantizeLinear", [weight, weight_scale, weight_zero], {"axis": 1})
    gemm = ir.node("MatMul", [dequantize.outputs[0], weights.outputs[0]])
    y = gemm.outputs[0]
    y.name, y.shape = "y", ir.Shape((1, 2, 4))
    y.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [x],
        [y],
        nodes=[quantize, dequantize, weights, gemm],
        initializers=[scale, zero, weight, weight_scale, weight_zero],
        opset_imports={"": 20},
        name="gemm",
    )
    return ir.Model(graph, ir_version=9)


def test_the_gemm_that_is_tried_is_this_one() -> None:
    """To change it write it anew: `ir.save(quantized_gemm(), "qdeploy/deploy/gemm.onnx")`."""
    kept = ir.load(Path(doctor.__file__).with_name("gemm.onnx"))
    assert (
        ir.to_proto(kept).SerializeToString() == ir.to_proto(quantized_gemm()).SerializeToString()
    )
