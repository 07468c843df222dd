"""A tied process ends with the one that started it, at whatever moment that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qdeploy.machine.tied import run_tied

ROOT = Path(__file__).parent.parent
# Starts a tied process as `run_tied` does, says its number, and waits to be killed.
PARENT = """
import os, subprocess, sys, time
read, write = os.pipe()
child = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=read, stdout=subprocess.PIPE)
os.close(read)
if "silent" not in sys.argv:
    assert child.stdout.readline() == b"tied" + os.linesep.encode()
print(child.pid, flush=True)
time.sleep(60)
"""
NO_PRCTL = "import ctypes\ndel ctypes.CDLL\n"
NO_SIGNAL = "import fcntl\ndel fcntl.F_SETOWN\n"
TIED = "import sys, time\nfrom qdeploy.machine.tied import tie\ntie()\nprint('tied', flush=True)\n"
SLEEPING = "time.sleep(60)\n"
IN_C = "import ctypes\nctypes.PyDLL(None).sleep(60)\n"  # holds the interpreter
WORKS = {
    "sleeping": TIED + SLEEPING,
    "in C": TIED + IN_C,
    "sleeping, no prctl": NO_PRCTL + TIED + SLEEPING,
    "in C, no prctl": NO_PRCTL + TIED + IN_C,
    "sleeping, no prctl, no signal": NO_PRCTL + NO_SIGNAL + TIED + SLEEPING,
}


def ends(process: int, seconds: float = 10.0) -> bool:
    """Whether a process, child of nobody here, ends within so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.02)
    return False


def _killed(arguments: list[str], delay: float = 0.0) -> int:
    """The child of a parent that was killed so long after it started it."""
    command = [sys.executable, "-c", PARENT, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(delay)
        if "silent" not in arguments:
            assert not ends(child, 0.3)
        parent.kill()
    return child


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("work", WORKS)
def test_it_ends_with_its_parent(work: str) -> None:
    child = _killed(["-c", WORKS[work]])
    assert ends(child)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_it_ends_also_before_it_is_tied(delay: float) -> None:
    """The parent dies while the child starts Python: the pipe is at its end when it looks."""
    child = _killed(["-c", NO_PRCTL + TIED + SLEEPING, "silent"], delay)
    assert ends(child)


def test_a_module_runs_as_the_main_program() -> None:
    done = run_tied("qdeploy", ["--version"])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("qdeploy, version ")
    assert run_tied("qdeploy", ["no-such-command"]).returncode == 2


def test_a_descriptor_is_handed_on() -> None:
    read, write = os.pipe()
    act = f"import os; os.write({write}, b'x')"
    try:
        done = run_tied("timeit", ["-n1", "-r1", act], keep=[write])
        assert done.returncode == 0 and os.read(read, 1) == b"x"
    finally:
        os.close(read)
        os.close(write)
