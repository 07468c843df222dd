"""Files of anybody are looked into in a process of their own, with bounds on time and memory.

The rules of `onnx_files` see what a file says, not all that runtimes make of it. Whatever happens
here (a crash of a library, an endless loop, all memory asked for) happens to a process that was
made for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy import errors
from qdeploy._package import PACKAGE
from qdeploy.errors import ModelError, QDeployError
from qdeploy.files.scratch import scratch
from qdeploy.machine.faults import is_memory
from qdeploy.machine.remedies import missing_package
from qdeploy.onnx_file.check import check_file

if TYPE_CHECKING:  # the process that looks starts with little
    from qdeploy.schemas.inspection import InspectedFile

# Processor time and memory that a look takes at most: a start of the libraries (1 s, 0.1 GB), and
# several times what encoders were seen to take (10 ms per MB; of a table that is stored in 8 bits
# 16 bytes for each of its bytes).
SECONDS, SECONDS_PER_MB = 7, 0.5
BYTES, BYTES_PER_BYTE = 1_500_000_000, 24
MOST_SECONDS, MOST_BYTES = 120, 32_000_000_000  # of the largest encoders: 1.5·10⁹ weights in FP32
# Packages are not looked for in the working directory, where the file may have brought some.
_START = (
    "import sys; sys.path[:] = filter(None, sys.path); "
    "from qdeploy.deploy.foreign import main; main(sys.argv[1:])"
)
_PATIENCE = 8  # times the processor's time until a process that only waits is ended


def look(path: Path, target: str | None) -> InspectedFile:
    """What `describe.describe` says of a file.

    Raises:
        ModelError: the file breaks a rule, or looking into it failed, crashed, or took more time or
            memory than any honest file of its size.
        TargetError: of `describe.describe`.
    """
    size = check_file(path)
    with scratch("inspect") as folder:
        result = folder / "result.json"
        words = [os.path.abspath(path), str(result), str(size), *([target] if target else [])]
        command = [sys.executable, "-c", _START, *words]
        try:
            done = subprocess.run(
                command,
                env=_environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=_PATIENCE * _seconds(size),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _stopped(path, "it waits for something that does not come") from None
        if done.returncode != 0 or not result.is_file():
            raise _stopped(path, _end(done.returncode, size, done.stderr))
        answer = json.loads(result.read_text("utf-8"))
    if "error" in answer:
        known = getattr(errors, answer["error"])
        raise known(answer["text"].replace(words[0], str(path)))
    found: InspectedFile = answer["result"]
    return found


def _stopped(path: Path, fact: str) -> ModelError:
    return ModelError(
        f"{path} could not be looked into: {fact}. The file is damaged or made to do harm: take it "
        "anew from where it was made, or report it if you made it."
    )


def _end(code: int, size: int, said: bytes) -> str:
    """How a process ended."""
    if code == -getattr(signal, "SIGXCPU", 0):
        return f"more than {_seconds(size)} s of the processor were not enough"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"the process that did ended with {signal.Signals(-code).name}"
    lines = said.decode("utf-8", "replace").strip().splitlines() or [f"exit code {code}"]
    return f"the process that did ended with {lines[-1][:300]}"


def _seconds(size: int) -> int:
    return min(int(SECONDS + SECONDS_PER_MB * size / 1e6), MOST_SECONDS)


def _environment(folder: Path) -> dict[str, str]:
    """This process' environment: the same qdeploy, and files in a folder that goes afterwards."""
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    # faster to start, and no more memory than is used: OpenBLAS reserves some for each thread
    fixed = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    return os.environ | fixed | {"PYTHONPATH": os.pathsep.join(paths)}


def _bound(size: int) -> None:
    """Set the limits of this process, where the system has such."""
    try:
        import resource
    except ImportError:  # Windows
        return
    memory = min(BYTES + BYTES_PER_BYTE * size, MOST_BYTES)
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: _seconds(size),
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_FSIZE: memory,
    }
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some
            resource.setrlimit(kind, (soft, hard))


def main(words: list[str]) -> None:
    """Entry of the process: FILE RESULT SIZE [TARGET].

    It writes {"result"} or {"error", "text"} as JSON.
    """
    path, result, size, *target = words
    _bound(int(size))
    try:
        from qdeploy.deploy.describe import describe

        answer: dict[str, object] = {"result": describe(Path(path), target[0] if target else None)}
    except RecursionError:
        text = f"{path} holds chains of nodes that are longer than what is followed here."
        answer = {"error": "ModelError", "text": text}
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        answer = {"error": type(missing).__name__, "text": str(missing)}
    except (QDeployError, MemoryError) as error:
        answer = {"error": type(error).__name__, "text": str(error)}
        if is_memory(error):  # the limit is this process' own
            text = f"{path} asks for more memory than any honest file of its size. It was not read."
            answer = {"error": "ModelError", "text": text}
    Path(result).write_text(json.dumps(answer, ensure_ascii=True), "utf-8")
    # libraries that failed may crash on their way out, and all is said
    sys.stderr.flush()
    os._exit(0)
