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
from typing import TYPE_CHECKING, Any

from qdeploy import errors
from qdeploy._package import PACKAGE
from qdeploy.errors import ModelError, QDeployError
from qdeploy.files.scratch import scratch
from qdeploy.machine.faults import is_memory
from qdeploy.machine.remedies import missing_package
from qdeploy.onnx_file.check import check_file

if TYPE_CHECKING:  # the process that looks starts with little
    from qdeploy.schemas.comparison import ProductsNoise
    from qdeploy.schemas.inspection import CompiledFile, InspectedFile

# Processor time and memory that a look takes at most: a start of the libraries (1 s, 0.1 GB), and
# several times what encoders were seen to take (10 ms per MB; of a table that is stored in 8 bits
# 16 bytes for each of its bytes).
SECONDS, SECONDS_PER_MB = 7, 0.5
BYTES, BYTES_PER_BYTE = 1_500_000_000, 24
MOST_SECONDS, MOST_BYTES = 120, 32_000_000_000  # of the largest encoders: 1.5·10⁹ weights in FP32
# A compiler takes as many times that time and memory at most: TensorRT-RTX was seen to take 3 s and
# 0.7 GB of 90 MB.
COMPILE, COMPILING = "compile", 4
# The FP32 file is run once for each product of the other: in FP32, on a batch of rows.
NOISE, RUNNING = "noise", 16
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
    answer, end = _asked(path, check_file(path), [target] if target else [])
    if answer is None:
        raise _stopped(path, end)
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["text"])
    found: InspectedFile = answer["result"]
    return found


def look_compiled(path: Path, target: str) -> CompiledFile:
    """What the compiler of a target makes of a file; whatever fails in it is a line of the result.

    Args:
        target: one whose `compiles_files` is true.
    """
    answer, end = _asked(path, check_file(path), [target, COMPILE], COMPILING)
    if answer is not None and "result" in answer:
        found: CompiledFile = answer["result"]
        return found
    reason = end if answer is None else str(answer["text"])
    return {
        "summary": f"not compiled: {reason}",
        "compiler": "",
        "shapes": {},
        "refused": [reason],
        "products": None,
        "in_float": [],
    }


def look_noise(path: Path, request: Path) -> ProductsNoise:
    """What `product_noise.noise_of_request` says of a file.

    Args:
        request: of that function; the FP32 file in it was found good too.

    Raises:
        ModelError: see `look`.
    """
    answer, end = _asked(path, check_file(path), [NOISE, os.path.abspath(request)], RUNNING)
    if answer is None:
        raise _stopped(path, end)
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["text"])
    found: ProductsNoise = answer["result"]
    return found


def _asked(
    path: Path, size: int, what: list[str], times: int = 1
) -> tuple[dict[str, Any] | None, str]:
    """What a process of its own answers about a file.

    Args:
        what: words of `main` behind the size.
        times: the limits of a look that it may take.

    Returns:
        The answer; or None, and how the process ended.
    """
    with scratch("inspect") as folder:
        result = folder / "result.json"
        words = [os.path.abspath(path), str(result), str(size), *what]
        command = [sys.executable, "-c", _START, *words]
        try:
            done = subprocess.run(
                command,
                env=environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=_PATIENCE * _seconds(size, times),
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None, "it waits for something that does not come"
        if done.returncode != 0 or not result.is_file():
            return None, _end(done.returncode, _seconds(size, times), done.stderr)
        answer: dict[str, Any] = json.loads(result.read_text("utf-8"))
    if "text" in answer:
        answer["text"] = answer["text"].replace(words[0], str(path))
    return answer, ""


def _stopped(path: Path, fact: str) -> ModelError:
    return ModelError(
        f"{path} could not be looked into: {fact}. The file is damaged or made to do harm: take it "
        "anew from where it was made, or report it if you made it."
    )


def _end(code: int, seconds: int, said: bytes) -> str:
    """How a process ended."""
    if code == -getattr(signal, "SIGXCPU", 0):
        return f"more than {seconds} s of the processor were not enough"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"the process that did ended with {signal.Signals(-code).name}"
    lines = said.decode("utf-8", "replace").strip().splitlines() or [f"exit code {code}"]
    return f"the process that did ended with {lines[-1][:300]}"


def _seconds(size: int, times: int = 1) -> int:
    return times * min(int(SECONDS + SECONDS_PER_MB * size / 1e6), MOST_SECONDS)


def environment(folder: Path) -> dict[str, str]:
    """This process' environment: the same qdeploy, and files in a folder that goes afterwards."""
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    # faster to start, and no more memory than is used: OpenBLAS reserves some for each thread
    fixed = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    return os.environ | fixed | {"PYTHONPATH": os.pathsep.join(paths)}


def _bound(size: int, times: int = 1) -> None:
    """Set the limits of this process, where the system has such."""
    bound(size, times, timed=True)


def bound(size: int, times: int, *, timed: bool) -> None:
    """The same; `timed` is False where whoever started this process watches its time."""
    try:
        import resource
    except ImportError:  # Windows
        return
    memory = min(times * (BYTES + BYTES_PER_BYTE * size), MOST_BYTES)
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_FSIZE: memory,
    }
    if timed:
        limits[resource.RLIMIT_CPU] = _seconds(size, times)
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some
            resource.setrlimit(kind, (soft, hard))


def _found(
    path: Path, target: str | None = None, how: str = ""
) -> InspectedFile | CompiledFile | ProductsNoise:
    """What a process was started for."""
    if target == NOISE:
        from qdeploy.deploy.product_noise import noise_of_request

        return noise_of_request(path, Path(how))
    if target is not None and how == COMPILE:
        from qdeploy.deploy.targets.registry import TARGETS

        return TARGETS[target].compile_file(path)
    from qdeploy.deploy.describe import describe

    return describe(path, target)


def main(words: list[str]) -> None:
    """Entry of the process: FILE RESULT SIZE [TARGET [COMPILE] | NOISE REQUEST].

    It writes {"result"} or {"error", "text"} as JSON.
    """
    path, result, size, *what = words
    _bound(int(size), COMPILING if COMPILE in what else RUNNING if NOISE in what else 1)
    try:
        answer: dict[str, object] = {"result": _found(Path(path), *what)}
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
