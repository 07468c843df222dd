"""ONNX Runtime on a GPU: what the targets `ort-cuda` and `ort-tensorrt…` share."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import onnxruntime as ort

from qdeploy.deploy.cuda import Stream
from qdeploy.deploy.engine import Engine, KernelTime, KernelTrace, inputs_of
from qdeploy.deploy.health import ELSEWHERE, gpu_package
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.errors import TargetError
from qdeploy.files.scratch import scratch
from qdeploy.graph.session import reason_of, refused, running
from qdeploy.machine.faults import is_memory
from qdeploy.types import Array

if TYPE_CHECKING:
    from qdeploy.deploy.ort.events import Event

_Result = TypeVar("_Result")
ONNX = "model.onnx"
CUDA = "CUDAExecutionProvider"
_OF_DEVICE = re.compile("CUDA (failure|error)|CUDNN|CUBLAS|TensorRT", re.IGNORECASE)


class OrtGpuEngine(Engine):
    """See `qdeploy.deploy.engine.Engine`.

    Runs share one stream of the device: those of several threads wait for each other.

    Attributes:
        proof_packages: what `trace_gemms` imports to read the graph that ran.
        provider, device: where it runs, and where inputs and outputs of bound runs lie.
        graphs: False, as runs are not launched as one CUDA graph.
        device_times: of the bound runs whose clock was read, ms between two events of the device.
    """

    proof_packages: tuple[str, ...] = ("onnx_ir",)
    on_device = True
    provider, device = CUDA, "cuda"
    graphs = False

    def __init__(self, path: Path, *, threads: int = 2) -> None:
        """Load a file.

        Raises:
            RunError: it does not load.
            TargetError: the provider did not start.
        """
        super().__init__()
        preload()
        self._turn = threading.Lock()
        self.path = path
        self.threads = threads
        self._stream = Stream()  # the session's own, so that events can be put into it
        self._session = self._open()
        self.input_names = tuple(value.name for value in self._session.get_inputs())
        self.output_names = tuple(value.name for value in self._session.get_outputs())

    def bind(self, feeds: Mapping[str, Array]) -> Callable[[], None]:
        """A run on inputs that lie on the device already, and whose outputs stay there.

        What is timed is then the run alone, with no copy in it.
        """
        binding = self._session.io_binding()
        for name, array in inputs_of(feeds, self.input_names).items():
            value = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.device, 0)
            binding.bind_ortvalue_input(name, value)
        for name in self.output_names:
            binding.bind_output(name, self.device)

        return partial(self._launch, binding)

    def _launch(self, binding: ort.IOBinding, held: object = None) -> None:
        """One bound run between two events.

        Args:
            held: what the binding needs, and does not keep itself.
        """
        del held
        with self._turn:
            self._stream.begin()
            self._refusing(lambda: self._session.run_with_iobinding(binding))
            self._stream.end()
            self._stream.wait()

    def read_clock(self) -> None:
        """Add the last bound run's time on the device to `device_times`."""
        self.device_times.append(self._stream.elapsed_ms())

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; int64 [B, S] feeds, FP32 outputs.

        Raises:
            DataError: an input is missing.
            RunError: the graph does not run on these inputs.
            TargetError: the device failed.
        """
        self.check_process()
        wanted = inputs_of(feeds, self.input_names)
        with self._turn:
            outputs = self._refusing(lambda: self._session.run(None, wanted))
        return dict(zip(self.output_names, (np.asarray(o) for o in outputs), strict=True))

    def profile(self, feeds: Mapping[str, Array], iterations: int = 20) -> list[KernelTime]:
        """Kernels over `iterations` runs after one warm-up; their times are those of launching."""
        from qdeploy.deploy.ort.events import kernel_times

        return kernel_times(self.events(feeds, iterations), iterations + 1)

    def trace_gemms(
        self,
        gemms: Mapping[str, Sequence[TraceName]],
        feeds: Mapping[str, Array],
        iterations: int = 3,
    ) -> KernelTrace:
        """Find each GEMM by its int8 weights in the graph that ran; without times."""
        from qdeploy.deploy.ort.events import kernel_times, providers_of
        from qdeploy.deploy.ort.kernels import load_optimized
        from qdeploy.deploy.ort.profile import find_kernels

        with scratch("profile") as folder:
            optimized = folder / "optimized.onnx"
            events = self.events(feeds, iterations, optimized)
            graph = load_optimized(optimized)
        kernels = [replace(k, ms=0.0) for k in kernel_times(events, iterations + 1)]
        found, providers = find_kernels(graph, gemms, kernels), providers_of(events)
        return KernelTrace(
            {g: [_placed(k, providers) for k in ks] for g, ks in found.items()}, kernels
        )

    def events(
        self, feeds: Mapping[str, Array], iterations: int, optimized: Path | None = None
    ) -> list[Event]:
        """What a profile of one more run than `iterations` holds.

        Args:
            optimized: file for the graph that ran.
        """
        from qdeploy.deploy.ort.events import recorded

        wanted = inputs_of(feeds, self.input_names)
        with scratch("profile") as folder:
            session = self._open(optimized, str(folder / "profile"))
            return recorded(session, wanted, iterations + 1, self.path)

    def _open(
        self, optimized: Path | None = None, profile: str | None = None
    ) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        if optimized is not None:
            options.optimized_model_filepath = str(optimized)
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = profile
        try:
            session = self._start(options)
        except Exception as error:  # onnxruntime raises classes of its own for each cause
            does_not = f"does not load in {self.provider}"
            raise refused(error, self.path, does_not, "Build it again here.") from error
        if session.get_providers()[0] != self.provider:
            raise TargetError(
                f"ONNX Runtime started {session.get_providers()[0]} instead of {self.provider}: "
                "its libraries (CUDA, cuDNN, TensorRT 10) or the driver are missing. `qdeploy "
                "doctor` says what is here."
            )
        return session

    def _start(self, options: ort.SessionOptions) -> ort.InferenceSession:
        """A session on the provider; what that does not take runs on the CPU."""
        providers = [(self.provider, {"device_id": "0", **self._on_stream()})]
        # without this a provider that fails is replaced by another one, silently
        return ort.InferenceSession(self.path, options, providers, enable_fallback=0)

    def _on_stream(self) -> dict[str, str]:
        """Options of a provider: runs are put into the stream of this engine."""
        return {"has_user_compute_stream": "1", "user_compute_stream": str(self._stream.pointer)}

    def _refusing(self, work: Callable[[], _Result]) -> _Result:
        with running(self.path, self.provider):
            try:
                return work()
            except Exception as error:  # as above
                if _OF_DEVICE.search(str(error)) is None or is_memory(error):
                    raise
                raise TargetError(f"{self.provider} did not run: {reason_of(error)}.") from error


def require_provider(provider: str) -> None:
    """Refuse a package that is built without a provider.

    Raises:
        TargetError: with the way out.
    """
    available = ort.get_available_providers()
    if provider not in available:
        raise TargetError(
            f"This onnxruntime has no {provider} ({', '.join(available)}). {gpu_package()} (the "
            f"packages onnxruntime and onnxruntime-gpu overwrite each other). {ELSEWHERE}"
        )


def preload() -> None:
    """Load CUDA's libraries from their packages, where pip installed them."""
    load = getattr(ort, "preload_dlls", None)  # since 1.21
    if load is not None and CUDA in ort.get_available_providers():
        with contextlib.redirect_stdout(sys.stderr):  # where it says what it did not find
            load()


def _placed(kernel: KernelTime, providers: Mapping[str, str]) -> KernelTime:
    """A kernel with its provider: INT8 on the CPU is no INT8 of this target."""
    provider = providers.get(kernel.name, CUDA)
    if provider == CUDA or not kernel.int8:
        return kernel
    return replace(kernel, int8=False, fallback_reason=f"it ran on {provider}")
