"""What every engine offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.errors import DataError
from qdeploy.types import Array


@dataclass(frozen=True)
class KernelTime:
    """One kernel of one run.

    Attributes:
        name: node name in the graph that ran.
        kernel: what ran ("MatMulIntegerToFloat").
        ms: mean time per run, milliseconds.
        calls: times it ran per run of the engine.
        int8: whether it multiplies 8-bit integers.
        fault: of a kernel that was to be INT8 and is not, why; else empty.
    """

    name: str
    kernel: str
    ms: float
    calls: int
    int8: bool = False
    fault: str = ""


@dataclass(frozen=True)
class KernelTrace:
    """What a profiled run saw.

    Attributes:
        gemms: the kernels that stood for each GEMM, in order; none where it was not found.
        kernels: all kernels of the run.
    """

    gemms: Mapping[str, Sequence[KernelTime]]
    kernels: Sequence[KernelTime]

    @property
    def ms(self) -> float:
        """Kernel time of a run, milliseconds."""
        return sum(kernel.ms for kernel in self.kernels)


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

    def trace_gemms(
        self,
        gemms: Mapping[str, Sequence[TraceName]],
        feeds: Mapping[str, Array],
        iterations: int = 3,
    ) -> KernelTrace:
        """Profile a run and find the kernels of each GEMM.

        Args:
            gemms: GEMM name → the names that its lowering left (`Lowered.trace_names`), or any
                pairs of a weight and a node.
            feeds: int64 [B, S] by input name.
            iterations: profiled runs after one warm-up.
        """
        ...


def inputs_of(feeds: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
    """The feeds that an engine takes, without the others.

    Raises:
        DataError: an input is missing.
    """
    missing = [name for name in names if name not in feeds]
    if missing:
        raise DataError(f"The engine needs the inputs {', '.join(missing)}.")
    return {name: feeds[name] for name in names}
