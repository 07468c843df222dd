"""A target that compiles, and works here: TensorRT's graph on the CPU, with kernels made up.

What a GPU target goes through (build, compile, certificate, timing, report) runs with it; nothing
is learnt from it about a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pytest

from qdeploy.deploy.engine import KernelTime, KernelTrace
from qdeploy.deploy.health import Health
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.options import CompileOptions
from qdeploy.deploy.ort.simulator import SimulatedEngine
from qdeploy.deploy.targets import registry as targets
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.deploy.targets.tensorrt.target import TensorRt
from qdeploy.files.artifact import read_json
from qdeploy.schemas.manifest import CompiledFields, EngineFields

Array = npt.NDArray[Any]
NAME = "standin"
SITE_MS = 1.0  # what a site in groups costs
IN_FLOAT: set[str] = set()  # GEMMs for which the stand-in takes a float kernel


class StandIn(SimulatedEngine):
    """A simulated engine that says that every GEMM ran in INT8, and whose runs take a while."""

    graphs, on_device = True, True

    def __init__(self, path: Path, *, threads: int, slow_ms: float) -> None:
        super().__init__(path, threads=threads)
        self.bound = 0
        self._slow_ms = slow_ms

    def bind(self, feeds: Mapping[str, Array]) -> Callable[[], None]:
        self.bound += 1
        self.run(feeds)

        def run() -> None:
            time.sleep(self._slow_ms / 1000)

        return run

    def read_clock(self) -> None:
        self.device_times.append(self._slow_ms)

    def profile(self, feeds: Mapping[str, Array], iterations: int = 20) -> list[KernelTime]:
        return [KernelTime("gemm", "gemm", 1.0, 1, int8=True)]

    def trace_gemms(
        self,
        gemms: Mapping[str, Sequence[TraceName]],
        feeds: Mapping[str, Array],
        iterations: int = 3,
    ) -> KernelTrace:
        kernels = self.profile(feeds)
        half = [KernelTime("gemm", "half_gemm", 1.0, 1, fallback_reason="it reads Half")]
        return KernelTrace({gemm: half if gemm in IN_FLOAT else kernels for gemm in gemms}, kernels)


class StandInTarget(TensorRt):
    """TensorRT's graphs, run by a stand-in that is always here."""

    name = NAME

    def require(self) -> None:
        pass

    def compile(
        self, directory: Path, manifest: EngineFields, shape: tuple[int, int], how: CompileOptions
    ) -> CompiledFields:
        return {"cuda_graph": True, "builder": {"shapes": {"opt": list(shape)}}}

    def open(self, directory: Path, manifest: Mapping[str, Any], threads: int) -> StandIn:
        """Each site in groups takes `SITE_MS`; FP16 takes as long as two."""
        slow = 2 if manifest["strategy"] == "fp16" else grouped_sites(directory)
        return StandIn(directory / "model.onnx", threads=threads, slow_ms=1.0 + SITE_MS * slow)

    def diagnose(self) -> Health:
        return Health(True, "a stand-in")


def grouped_sites(directory: Path) -> int:
    """Sites of an engine directory that have groups."""
    sites = read_json(directory / "plan.json")["sites"]
    return sum(site["treatment"]["kind"] == "grouped" for site in sites)


@contextmanager
def standin() -> Iterator[None]:
    """While this lasts the target exists, and works."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "TARGET_NAMES", (*targets.TARGET_NAMES, NAME))
        patch.setitem(TARGETS, NAME, StandInTarget())
        yield
