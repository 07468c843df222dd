"""Processes that end when the one that started them does, however that ends.

    python -m qdeploy.machine.tied MODULE ARGUMENT...

runs a module as the main program, tied before anything heavy is imported. The parent keeps the
other end of its standard input open and writes nothing: the kernel closes it with the parent, also
in a container and after SIGKILL. What a tied process starts with `run_tied` ends with it in turn.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

from qdeploy._package import PACKAGE

_PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>
_ENDED = 74  # exit code of a process whose parent is gone; nobody reads it


def run_tied(
    module: str, arguments: Sequence[str], *, keep: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a module in a process of its own that does not outlive this one.

    Args:
        module: of this package.
        arguments: for it.
        keep: descriptors that it gets too, such as one that holds a lock.

    Returns:
        Exit code and what it wrote, as `subprocess.run` gives them.
    """
    command = [sys.executable, "-m", __name__, module, *arguments]
    read, write = os.pipe()
    try:
        try:
            process = subprocess.Popen(
                command,
                stdin=read,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=_environment(),
                pass_fds=keep,
            )
        finally:
            os.close(read)
        with process:
            try:
                out, err = process.communicate()
            except BaseException:  # Ctrl-C too
                process.kill()
                raise
    finally:
        os.close(write)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _environment() -> dict[str, str]:
    """This process' environment, in which the same qdeploy is found from any folder."""
    root = str(PACKAGE.parent)
    known = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": os.pathsep.join([root, *([known] if known else [])])}


def tie() -> None:
    """End this process with its parent: when its standard input, a pipe, is closed.

    Three ways, since each has a gap. The kernel's own (Linux) starts a moment late. A signal at the
    pipe's end works while C++ holds the interpreter, and not everywhere. A thread that waits for
    the end sees it in any case, if it is before all this, but waits for the interpreter.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        signal.signal(signal.SIGIO, signal.SIG_DFL)  # it ends the process
        fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)
    threading.Thread(target=_wait_for_the_end, name="tied", daemon=True).start()


def _wait_for_the_end() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os._exit(_ENDED)


def main() -> None:
    """Run the module that the command line names."""
    tie()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
