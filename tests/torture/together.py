"""Several processes on one output: writers, readers in between, and containers."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from pathlib import Path

from tests.torture import placed, whole
from tests.torture.calls import Worker, detail, replied
from tests.torture.ground import (
    CLEAR,
    LEFTOVER,
    LOST,
    UNEXPECTED,
    WORKED,
    WRONG,
    Ground,
    Tally,
    close_to,
    told,
)

# A process in a container of its own: it is number 1, or nearly, as in every other one.
CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
_LOADS, _PAUSE_S = 20, 0.2


def run(ground: Ground, rng: random.Random, tally: Tally) -> None:
    """One of each kind."""
    kinds = [_writers, _readers]
    try:
        possible = subprocess.run([*CONTAINER, "true"], capture_output=True).returncode == 0
    except OSError:
        possible = False
    if possible:
        kinds += [_containers, _killed]
    else:
        tally.skip("no PID namespaces can be made here")
    for kind in kinds:
        with ground.folder() as folder:
            kind(ground, folder, rng, tally)


def _writers(ground: Ground, folder: Path, rng: random.Random, tally: Tally) -> None:
    """Of three builds of one output exactly one wins, and the others say so."""
    del rng
    output = folder / "out"
    command = ground.command("build", ground.home / "model", output, "--strategy", "fp32", "-q")
    running = [
        subprocess.Popen(command, **ground.where, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    done = [(p.communicate(timeout=120)[1], p.returncode) for p in running]
    losers = [(text, code) for text, code in done if code]
    if len(losers) != 2 or not whole.whole_directory(output):
        tally.add(LOST, "three writers", f"exit codes {[code for _, code in done]}")
        return
    verdicts = {told(code, text, str(output)) for text, code in losers}
    if verdicts != {CLEAR}:
        tally.add(UNEXPECTED, "three writers", str(losers)[-400:])
    elif left := whole.hidden(folder):
        tally.add(LEFTOVER, "three writers", ", ".join(left))
    else:
        tally.add(CLEAR, "three writers")


def _readers(ground: Ground, folder: Path, rng: random.Random, tally: Tally) -> None:
    """Loads while another process replaces the engine all the time: the one or the other.

    Each load is stopped at a random moment, for about as long as a build takes: the engine is
    replaced between any two files that a load opens.
    """
    output, what = folder / "out", "a reader under constant --force"
    writer, reader = Worker(ground), Worker(ground)
    models = [ground.home / "model", ground.home / "model2"]
    both = [writer.call("build", m, folder / m.name, "fp32")["value"] for m in models]
    assert not close_to(*both)
    writer.call("build", models[0], output, "fp32")
    reader.call("answers", output)  # starts it
    stop, failed = threading.Event(), []

    def replace() -> None:
        at = 0
        while not stop.is_set():
            at += 1
            reply = writer.call("build", models[at % 2], output, "fp32", True)
            if "value" not in reply:
                failed.append(reply)

    def pause(moment: float) -> None:
        time.sleep(moment)
        reader.send(signal.SIGSTOP)
        time.sleep(_PAUSE_S)
        reader.send(signal.SIGCONT)

    writing = threading.Thread(target=replace)
    writing.start()
    for _ in range(_LOADS):
        pausing = threading.Thread(target=pause, args=(rng.uniform(0, 0.05),))
        pausing.start()
        reply = reader.call("answers", output)
        pausing.join()
        verdict = replied(reply)
        if verdict == WORKED and not any(close_to(reply["value"], one) for one in both):
            verdict = WRONG
        if verdict == CLEAR:
            verdict = UNEXPECTED  # there is an engine at any time
        tally.add(verdict, what, detail(reply))
    stop.set()
    writing.join()
    writer.close()
    reader.close()
    if failed:
        tally.add(UNEXPECTED, "constant --force under a reader", detail(failed[0]))


def _containers(ground: Ground, folder: Path, rng: random.Random, tally: Tally) -> None:
    """A build in one container, a second one of the same output in another, or outside."""
    output, what = folder / "out", "two containers"
    first = placed.slow_build(ground, output, rng.choice((3, 4)), *CONTAINER)
    before = rng.choice((CONTAINER, ()))
    command = ground.command("build", ground.home / "model", output, "--strategy", "fp32", "-q")
    second = subprocess.run([*before, *command], **ground.where, capture_output=True, text=True)
    said = placed.go_on(first)
    ends = [said == "done", second.returncode == 0]
    if sum(ends) != 1 or not whole.whole_directory(output):
        tally.add(LOST, what, f"{sum(ends)} of two are done: {said}; {second.stderr[-300:]}")
    elif not ends[0] and not said.startswith("qdeploy.errors."):
        tally.add(LOST, what, f"the first one's work is destroyed: {said}")
    elif not ends[1] and told(second.returncode, second.stderr, str(output)) != CLEAR:
        tally.add(UNEXPECTED, what, second.stderr[-300:])
    elif left := whole.hidden(folder):
        tally.add(LEFTOVER, what, ", ".join(left))
    else:
        tally.add(CLEAR, what)


def _killed(ground: Ground, folder: Path, rng: random.Random, tally: Tally) -> None:
    """A build that is killed with its container, then again in a new one."""
    output, what = folder / "out", "killed in a container, then again"
    first = placed.slow_build(ground, output, rng.choice((3, 4)), *CONTAINER)
    first.kill()
    first.communicate()
    command = ground.command("build", ground.home / "model", output, "--strategy", "fp32", "-q")
    second = subprocess.run([*CONTAINER, *command], **ground.where, capture_output=True, text=True)
    if second.returncode or not whole.whole_directory(output):
        tally.add(UNEXPECTED, what, f"exit {second.returncode}: {second.stderr[-300:]}")
    elif left := whole.hidden(folder, ground.temporary):
        tally.add(LEFTOVER, what, ", ".join(left))
    else:
        tally.add(WORKED, what)
