"""What every engine offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.one_process import OfOneProcess
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
        fallback_reason: of a kernel that was to be INT8 or FP8 and is not, why; else empty.
        fp8: whether it multiplies FP8.
    """

    name: str
    kernel: str
    ms: float
    calls: int
    int8: bool = False
    fallback_reason: str = ""
    fp8: bool = False


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


class Engine(OfOneProcess, ABC):
    """A loaded engine: named inputs in, named outputs out.

    Attributes:
        input_names, output_names: of the graph.
        threads: of one run.
        proof_packages: what `trace_gemms` imports to read the graph that ran.
        on_device: bound runs keep inputs and outputs on a device, whose memory is its own.
        graphs: whether runs are launched as one CUDA graph; None where there is no such thing.
        device_times: of the bound runs whose clock was read, ms between two events of the device.
    """

    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    threads: int
    proof_packages: tuple[str, ...] = ()
    on_device: bool = False
    graphs: bool | None = None

    def __init__(self) -> None:
        super().__init__()
        self.device_times: list[float] = []

    def bind(self, feeds: Mapping[str, Array]) -> Callable[[], None]:
        """A run on these inputs, to be timed: on a device without the copies to it and back."""

        def run() -> None:
            self.run(feeds)

        return run

    def read_clock(self) -> None:
        """Add the last bound run's time on the device to `device_times`."""

    @abstractmethod
    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once: int64 [B, S] inputs by name → FP32 outputs by name (`logits` [B, classes])."""

    @abstractmethod
    def profile(self, feeds: Mapping[str, Array], iterations: int = 20) -> list[KernelTime]:
        """Time each kernel over `iterations` runs (after one warm-up run)."""

    @abstractmethod
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


def inputs_of(feeds: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
    """The feeds that an engine takes, without the others.

    Raises:
        DataError: an input is missing.
    """
    missing = [name for name in names if name not in feeds]
    if missing:
        raise DataError(f"The engine needs the inputs {', '.join(missing)}.")
    return {name: feeds[name] for name in names}
