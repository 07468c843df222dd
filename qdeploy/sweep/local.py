"""Trials on this machine: one process at a time, so that latencies do not disturb each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qdeploy.errors import QDeployError
from qdeploy.files.scratch import scratch
from qdeploy.machine.tied import run_tied
from qdeploy.sweep.trial import Request

_SHOWN = 2000  # characters of a failed process's last words


@dataclass(frozen=True)
class Run:
    """When and where a step ran.

    Attributes:
        began: seconds since 1970, of the machine that ran it.
        seconds: that it took.
        where: the machine.
    """

    began: float
    seconds: float
    where: str


# Told of each trial of a step how it ended: (key, error or None, run).
Ended = Callable[[str, "str | None", Run], None]


class TrialError(QDeployError):
    """A trial ended without a result; the text is what its process said last."""


def run_step(step: str, request: Request, *, keep: Sequence[int] = ()) -> None:
    """Run one step of a trial (`qdeploy.sweep.trial.STEPS`) in a process that ends with this one.

    Args:
        keep: descriptors that it gets too; the lock of the sweep's folder, so that nobody works
            there while it runs.

    Raises:
        TrialError: it failed, or was killed.
    """
    with scratch("trial") as folder:
        path = folder / "request.json"
        request.save(path)
        done = run_tied("qdeploy.sweep.trial", [step, str(path)], keep=keep)
    if done.returncode:
        raise TrialError(failure(done.returncode, done.stderr))


def failure(code: int, stderr: str) -> str:
    """Why a process failed: its error's own text, or the signal that ended it."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if code < 0:
        return f"killed by signal {-code}" + (f" after: {last}"[:_SHOWN] if last else "")
    name, _, text = last.partition(": ")
    return (text if name.startswith("qdeploy.errors.") else last)[-_SHOWN:] or f"exit code {code}"
