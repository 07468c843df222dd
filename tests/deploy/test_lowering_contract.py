"""The contract of lowerings, for every target: how its graphs run here, and what it cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy.typing as npt
import onnx_ir as ir
import pytest

from qdeploy.calibrate.plan import Plan
from qdeploy.deploy.lowering.lowered import Lowered
from qdeploy.deploy.tally import tally
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.deploy.targets.tensorrt.lower import CUTS as TENSORRT_CUTS
from qdeploy.graph.structure import Structure
from tests.deploy.lowering_contract import LoweringContract
from tests.deploy.tolerances import HALF, HALF_LAYER, OPENVINO, ROUNDING
from tests.deploy.toys import certified, planned, run, saved, simulated
from tests.deploy.treated_gemm import ASYMMETRIC, DYNAMIC, X

Array = npt.NDArray[Any]


class TestOrtCpu(LoweringContract):
    """Any treatment, on uint8 kernels that can be seen in the optimized graph."""

    target, product = "ort-cpu", "MatMulIntegerToFloat"
    fits_16_bits = True
    tolerance = layer_tolerance = ROUNDING
    never = frozenset({"DequantizeLinear"})

    def outputs(self, model: ir.Model, path: Path, x: Array) -> list[Array]:
        return [run(model, path, {"x": x})[0]]

    def check_kernels(self, lowered: Lowered, plan: Plan, structure: Structure, path: Path) -> None:
        report = certified(path, planned(plan, structure, lowered.trace_names))
        assert report["executed"] == report["planned"] == len(structure.gemms)
        assert not report["fallbacks"]


class TestOpenVino(LoweringContract):
    """Ranges are found before it runs; its kernels are those of its runtime model."""

    target, product = "openvino", "MatMul"
    fits_16_bits = True
    tolerance = layer_tolerance = OPENVINO
    cannot: ClassVar = {DYNAMIC: "no GEMM with ranges found at run time"}
    # It joins a negation (or another multiplication by a number) with the factors per channel that
    # follow, and takes the wrong channel where rows are 2-D. ONNX Runtime runs that graph right.
    # Behind Tanh, Relu, Sigmoid or a Gather it is right, which is what stands before heads.
    wrong: ClassVar = {
        ("pre_quant_scale", "Gemm, transB"): "OpenVINO 2026.4.1: two multiplications in a row, 2-D"
    }

    def outputs(self, model: ir.Model, path: Path, x: Array) -> list[Array]:
        return [self._engine(saved(model, path)).run({"x": x})["y"]]

    def check_kernels(self, lowered: Lowered, plan: Plan, structure: Structure, path: Path) -> None:
        trace = self._engine(path).trace_gemms(lowered.trace_names, {"x": X}, 1)
        report = tally(planned(plan, structure, lowered.trace_names), trace.gemms, trace.ms)
        assert report["executed"] == report["planned"] == len(structure.gemms)
        assert not report["fallbacks"]

    @staticmethod
    def _engine(path: Path) -> Any:
        pytest.importorskip("openvino")
        from qdeploy.deploy.targets.openvino.engine import OpenVinoEngine

        return OpenVinoEngine(path, threads=1)


class TestOrtCuda(LoweringContract):
    """Symmetric ranges; integer products are written out, and the rest is FP16."""

    target, product = "ort-cuda", "MatMulInteger"
    tolerance, layer_tolerance = HALF, HALF_LAYER
    cannot: ClassVar = {DYNAMIC: "ranges found at run time", ASYMMETRIC: "zero point 0 only"}
    never = frozenset({"DequantizeLinear"})

    def outputs(self, model: ir.Model, path: Path, x: Array) -> list[Array]:
        return [simulated(model, path, x)]


class TestTensorRt(LoweringContract):
    """Symmetric ranges; products stand between Q/DQ pairs in FP16."""

    target, product = "tensorrt", "MatMul"
    tolerance, layer_tolerance = HALF, HALF_LAYER
    cannot = TestOrtCuda.cannot
    cuts = TENSORRT_CUTS

    def outputs(self, model: ir.Model, path: Path, x: Array) -> list[Array]:
        return [simulated(model, path, x), in_half(model, path, x)]


class TestOrtTensorRt(TestTensorRt):
    """TensorRT's graphs."""

    target = "ort-tensorrt"


class TestTensorRtRtx(TestTensorRt):
    """TensorRT's graphs."""

    target = "tensorrt-rtx"


class TestOrtTensorRtRtx(TestTensorRt):
    """TensorRT's graphs."""

    target = "ort-tensorrt-rtx"


def in_half(model: ir.Model, path: Path, x: Array) -> Array:
    """y in ONNX's own reference, which computes each operator in its type."""
    reference = pytest.importorskip("onnx.reference")
    (found,) = reference.ReferenceEvaluator(str(saved(model, path))).run(None, {"x": x})
    result: Array = found
    return result


def test_every_target_is_held_to_the_contract() -> None:
    held, pending = set(), [LoweringContract]
    while pending:
        for contract in pending.pop().__subclasses__():
            held.add(contract.target)
            pending.append(contract)
    assert held == set(TARGETS)
