"""An ONNX file of anybody as an engine: its session runs in a process of its own.

Rows go there and outputs come back as plain numbers over two pipes; nothing that the process says
is unpickled. Memory is bounded as for a look (`qdeploy.deploy.foreign`), several times over since
rows are run; a run that takes too long is ended.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from qdeploy.deploy import foreign
from qdeploy.deploy.engine import Engine, KernelTime, KernelTrace, inputs_of
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.errors import PlanError, QDeployError, RunError
from qdeploy.files.scratch import scratch
from qdeploy.onnx_file.check import check_file
from qdeploy.types import Array

_TIMES = 4  # the memory of a look: packed weights, and the activations of a batch
SECONDS = 600  # of a start, or of one batch: what the slowest emulated processor was seen to take
_TYPES = ("float32", "float64", "int64", "int32")  # that cross the pipes
_MOST_BYTES = 1 << 31  # of one output
_LONGEST_LINE = 1 << 16
_START = (
    "import sys; sys.path[:] = filter(None, sys.path); "
    "from qdeploy.deploy.foreign_engine import main; main(sys.argv[1:])"
)


class Told(msgspec.Struct):
    """A line of what the two processes say to each other.

    Attributes:
        arrays: name, type and shape of each array whose numbers follow.
        inputs, outputs: names of the graph's, as the first line has them.
        error: what failed.
    """

    arrays: list[tuple[str, str, list[int]]]
    inputs: list[str] = []
    outputs: list[str] = []
    error: str | None = None


class ForeignEngine(Engine):
    """A session of ONNX Runtime's CPU provider, in a process of its own, until `close`.

    Args:
        path: .onnx file.
        threads: of a run.

    Raises:
        ModelError: the file breaks a rule.
        RunError: it does not load, or its process ended.
    """

    def __init__(self, path: Path, *, threads: int) -> None:
        super().__init__()
        self.path, self.threads = path, threads
        size = check_file(path)
        self._stack = contextlib.ExitStack()
        folder = self._stack.enter_context(scratch("run"))
        self._said = folder / "said"
        words = [sys.executable, "-c", _START, os.path.abspath(path), str(size), str(threads)]
        with self._said.open("wb") as said:
            self._child = subprocess.Popen(
                words,
                env=os.environ | foreign.environment(folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
            )
        self._stack.callback(self._end)
        try:
            told, _ = self._answer()
            self.input_names, self.output_names = tuple(told.inputs), tuple(told.outputs)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        self._stack.close()

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; int64 [B, S] feeds, FP32 outputs.

        Raises:
            DataError: an input is missing.
            RunError: the graph does not run on these inputs, or takes too long.
        """
        self.check_process()
        assert self._child.stdin is not None
        wanted = inputs_of(feeds, self.input_names)
        with contextlib.suppress(BrokenPipeError):  # how it ended is told below
            _send(self._child.stdin, {}, wanted)
        return self._answer()[1]

    def profile(self, feeds: Mapping[str, Array], iterations: int = 20) -> list[KernelTime]:
        """Not of a file: `certify_file` says which kernels it has."""
        raise self._no_kernels()

    def trace_gemms(
        self,
        gemms: Mapping[str, Sequence[TraceName]],
        feeds: Mapping[str, Array],
        iterations: int = 3,
    ) -> KernelTrace:
        """Not of a file; see `profile`."""
        raise self._no_kernels()

    def _no_kernels(self) -> PlanError:
        return PlanError(
            f"{self.path} is no engine directory: `qdeploy inspect` names its kernels."
        )

    def _answer(self) -> tuple[Told, dict[str, Array]]:
        """What the process says next.

        Raises:
            RunError: it failed, ended, waits for something that does not come, or says what is no
                answer.
        """
        assert self._child.stdout is not None
        late = threading.Timer(SECONDS, self._child.kill)
        late.start()
        try:
            told, arrays = _receive(self._child.stdout)
        except ValueError as error:
            self._child.kill()
            raise self._failed(
                f"the process that ran it gave what is no answer ({str(error)[:300]})"
            ) from error
        except (EOFError, OSError) as error:
            self._child.kill()
            code = self._child.wait()
            raise self._failed(f"the process that ran it ended ({self._cause(code)})") from error
        finally:
            late.cancel()
        if told.error is not None:
            raise self._failed(told.error.replace(os.path.abspath(self.path), str(self.path)))
        return told, arrays

    def _cause(self, code: int) -> str:
        lines = self._said.read_text("utf-8", "replace").strip().splitlines()
        return (lines or [f"exit code {code}; {SECONDS} s a batch at most"])[-1][:300]

    def _failed(self, fact: str) -> RunError:
        return RunError(
            f"{self.path} does not run: {fact.rstrip('.')}. The file is damaged, or takes other "
            "inputs than rows of text give: take it anew from where it was made."
        )

    def _end(self) -> None:
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _send(pipe: IO[bytes], told: Mapping[str, object], arrays: Mapping[str, Array]) -> None:
    """A line of JSON, then the numbers of each array."""
    listed = [[name, str(a.dtype), list(a.shape)] for name, a in arrays.items()]
    pipe.write(json.dumps({**told, "arrays": listed}).encode() + b"\n")
    for array in arrays.values():
        pipe.write(np.ascontiguousarray(array).tobytes())
    pipe.flush()


def _receive(pipe: IO[bytes]) -> tuple[Told, dict[str, Array]]:
    """What `_send` wrote.

    Raises:
        EOFError: nothing more comes.
        ValueError: it is something else.
    """
    line = pipe.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise EOFError
    try:
        told = msgspec.json.decode(line, type=Told)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(str(error)) from error
    arrays = {}
    for name, kind, shape in told.arrays:
        if kind not in _TYPES:
            raise ValueError(f"numbers of type {kind}")
        size = math.prod(shape) * np.dtype(kind).itemsize
        if min(shape, default=0) < 0 or size >= _MOST_BYTES:
            raise ValueError(f"an array of {size} bytes")
        raw = pipe.read(size)
        if len(raw) < size:
            raise EOFError
        arrays[name] = np.frombuffer(raw, kind).reshape(shape)
    return told, arrays


def main(words: list[str]) -> None:
    """Entry of the process: FILE SIZE THREADS; it answers batches until its input ends."""
    path, size, threads = words
    # what libraries print goes to standard error: standard output is the pipe
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        foreign.bound(int(size), _TIMES, timed=False)
        try:
            _serve(Path(path), int(threads), answers)
        except (QDeployError, MemoryError) as error:
            text = str(error) or "it asks for more memory than any honest file of its size"
            _send(answers, {"error": text}, {})
    os._exit(0)  # libraries that failed may crash on their way out


def _serve(path: Path, threads: int, answers: IO[bytes]) -> None:
    from qdeploy.deploy.ort.session import open_session, session_options
    from qdeploy.graph.session import run_session

    session = open_session(path, session_options(threads))
    types = {value.name: value.type for value in session.get_inputs()}
    outputs = [value.name for value in session.get_outputs()]
    _send(answers, {"inputs": list(types), "outputs": outputs}, {})
    while True:
        try:
            _, feeds = _receive(sys.stdin.buffer)
        except EOFError:
            return
        cast = {n: a.astype(np.int32) if "int32" in types[n] else a for n, a in feeds.items()}
        found = run_session(session, cast, path)
        named = zip(outputs, map(np.asarray, found), strict=True)
        _send(answers, {}, {n: a.astype(np.float32) for n, a in named if a.dtype.kind == "f"})
