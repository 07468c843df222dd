"""What every engine offers, and how an engine directory becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from qdeploy.artifact import read_manifest
from qdeploy.errors import TargetError, choose

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class KernelTime:
    """One kernel of one run.

    Attributes:
        name: node name in the graph that ran.
        kernel: operator type that ran ("MatMulIntegerToFloat").
        ms: mean time per run, milliseconds.
        calls: times it ran per run of the engine.
    """

    name: str
    kernel: str
    ms: float
    calls: int


class Engine(Protocol):
    """A loaded engine: named inputs in, named outputs out."""

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    threads: int

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once: int64 [B, S] inputs by name → FP32 outputs by name (`logits` [B, classes])."""
        ...

    def profile(self, feeds: Mapping[str, Array], iterations: int = 20) -> list[KernelTime]:
        """Time each kernel over `iterations` runs (after one warm-up run)."""
        ...


def open_engine(engine_dir: str | Path, *, threads: int = 2) -> Engine:
    """Load the engine of an engine directory with a stated number of threads.

    Raises:
        ModelError: not an engine directory.
        TargetError: its target does not work on this machine.
    """
    directory = Path(engine_dir)
    manifest = read_manifest(directory, "engine")
    choose("target", manifest["target"], ("ort-cpu",), TargetError)
    from qdeploy.deploy.ort_cpu_engine import OrtCpuEngine

    return OrtCpuEngine(directory / "model.onnx", threads=threads)
