"""The CUDA runtime, as far as engines need it: memory, streams, events, graphs, the device.

Through NVIDIA's own binding `cuda.bindings` (package cuda-bindings), known to this file alone.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

from qdeploy.errors import TargetError
from qdeploy.machine.remedies import install_command
from qdeploy.schemas.manifest import Device
from qdeploy.types import Array

_Handle = TypeVar("_Handle")  # of a stream, an event or a graph; of memory its pointer

FP8_FROM = (8, 9)  # compute capability
_MEANING = {
    "cudaErrorInsufficientDriver": ": there is no NVIDIA driver, or one older than this CUDA",
    "cudaErrorNoDevice": ": there is no NVIDIA GPU",
}


def runtime() -> ModuleType:
    """The module cuda.bindings.runtime.

    Raises:
        TargetError: it is not installed.
    """
    try:
        from cuda.bindings import runtime as cudart
    except ImportError as error:
        install = install_command(packages=("cuda-bindings",))
        raise TargetError(
            f"cuda.bindings cannot be imported: {error}. Type: {install} (its major version is "
            "that of CUDA)"
        ) from None
    found: ModuleType = cudart
    return found


def call(function: Callable[..., tuple[Any, ...]], *arguments: object) -> Any:
    """What a function of the runtime returns behind its error code.

    The binding has no types, so that Any is what is known of numbers, handles and structures.

    Raises:
        TargetError: the code is an error.
    """
    code, *results = function(*arguments)
    if int(code) != 0:
        name = str(getattr(code, "name", code))
        raise TargetError(f"CUDA: {function.__name__} gave {name}{_MEANING.get(name, '')}.")
    return results[0] if len(results) == 1 else tuple(results)


def device() -> Device:
    """Name, compute capability, memory and driver of the first GPU.

    Raises:
        TargetError: there is none, or no driver.
    """
    cudart = runtime()
    if call(cudart.cudaGetDeviceCount) < 1:
        raise TargetError("CUDA: no GPU.")
    found = call(cudart.cudaGetDeviceProperties, 0)
    name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
    return {
        "name": name.strip("\0"),
        "compute_capability": f"{found.major}.{found.minor}",
        # Turing (7.5) is the first whose tensor cores multiply int8
        "int8_tensor_cores": (found.major, found.minor) >= (7, 5),
        "memory_mb": round(found.totalGlobalMem / 1e6),
        "driver": call(cudart.cudaDriverGetVersion),
        "runtime": call(cudart.cudaRuntimeGetVersion),
    }


def version_of(capability: str) -> tuple[int, ...]:
    """A compute capability as numbers, which are in order.

    >>> version_of("12.0") > version_of("8.9")
    True
    """
    return tuple(map(int, capability.split(".")))


def require_fp8() -> None:
    """Refuse a first GPU without FP8: Ada (8.9) is the first kind whose tensor cores multiply it.

    Raises:
        TargetError: it is an older one, with the way out; or there is none.
    """
    found = device()
    capability = found["compute_capability"]
    if version_of(capability) < FP8_FROM:
        needed = ".".join(map(str, FP8_FROM))
        raise TargetError(
            f"{found['name']} has compute capability {capability}, and FP8 needs {needed} (Ada, "
            "Hopper, Blackwell). Take --strategy peg, whose INT8 runs from 7.5 on."
        )


def used_memory_mb() -> float:
    """Memory of the first GPU that is in use, by any process, 10⁶ bytes.

    Raises:
        TargetError: no GPU, no driver, or no cuda.bindings.
    """
    cudart = runtime()
    free, total = call(cudart.cudaMemGetInfo)
    return float(total - free) / 1e6


def _freed(
    owner: object, function: Callable[[_Handle], object], handle: _Handle
) -> Callable[[], object]:
    """Frees a handle when its owner goes, or is closed; not at the end of the process."""
    freed = weakref.finalize(owner, function, handle)
    freed.atexit = False  # the driver frees everything then, perhaps before
    return freed


class Stream:
    """A stream with two events, for the time between them on the device."""

    def __init__(self) -> None:
        self._cudart = runtime()
        self.handle = call(self._cudart.cudaStreamCreate)
        _freed(self, self._cudart.cudaStreamDestroy, self.handle)
        self._events = [call(self._cudart.cudaEventCreate) for _ in range(2)]
        for event in self._events:
            _freed(self, self._cudart.cudaEventDestroy, event)

    @property
    def pointer(self) -> int:
        """The stream as an integer, for APIs that take it so."""
        return int(self.handle)

    def begin(self) -> None:
        """Mark the beginning."""
        call(self._cudart.cudaEventRecord, self._events[0], self.handle)

    def end(self) -> None:
        """Mark the end."""
        call(self._cudart.cudaEventRecord, self._events[1], self.handle)

    def wait(self) -> None:
        """Until everything in the stream is done."""
        call(self._cudart.cudaStreamSynchronize, self.handle)

    def elapsed_ms(self) -> float:
        """Between `begin` and `end`, after `wait`; milliseconds of the device."""
        return float(call(self._cudart.cudaEventElapsedTime, *self._events))


class Buffer:
    """Memory on the device, as large as the largest array that it has to hold."""

    def __init__(self, size: int) -> None:
        self._cudart = runtime()
        self.size = max(size, 1)
        self.pointer = int(call(self._cudart.cudaMalloc, self.size))
        self._free = _freed(self, self._cudart.cudaFree, self.pointer)

    def fill(self, array: Array, stream: Stream) -> None:
        """Copy a contiguous array in; it must stay as it is until the stream is done."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(self.pointer, array.ctypes.data, array.nbytes, kind, stream)

    def read(self, array: Array, stream: Stream) -> None:
        """Copy into a contiguous array."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, self.pointer, array.nbytes, kind, stream)

    def _copy(self, to: int, of: int, size: int, kind: object, stream: Stream) -> None:
        call(self._cudart.cudaMemcpyAsync, to, of, size, kind, stream.handle)

    def close(self) -> None:
        """Free it now."""
        self._free()


class Graph:
    """What a stream did once, to be done again with one launch."""

    def __init__(self, stream: Stream, work: Callable[[], None]) -> None:
        """Record `work`, which puts its kernels into the stream.

        Raises:
            TargetError: something in it cannot be recorded; and what `work` raises.
        """
        cudart = self._cudart = runtime()
        mode = cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call(cudart.cudaStreamBeginCapture, stream.handle, mode)
        try:
            work()
        except BaseException:
            cudart.cudaStreamEndCapture(stream.handle)  # its error is that of `work`
            raise
        recorded = call(cudart.cudaStreamEndCapture, stream.handle)
        _freed(self, cudart.cudaGraphDestroy, recorded)
        self._stream = stream
        self._ready = call(cudart.cudaGraphInstantiate, recorded, 0)
        _freed(self, cudart.cudaGraphExecDestroy, self._ready)

    def launch(self) -> None:
        """Do it again."""
        call(self._cudart.cudaGraphLaunch, self._ready, self._stream.handle)
