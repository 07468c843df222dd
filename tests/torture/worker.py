"""A long-lived process that runs calls of qdeploy, one JSON line each; started by its file's path.

It knows nothing but the standard library and the `qdeploy` that comes first on PYTHONPATH.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

PAIRS = [("what is the name of the river", "the river is long"), ("who was king", "a king")]
_ADDRESSES = 12 << 30  # bytes of address space: what runs wild takes this process, no other


def answers(directory: str) -> list[Any]:
    """Classes and scores of two pairs of texts."""
    import qdeploy

    rows = qdeploy.load(directory).predict(PAIRS)
    return [item for row in rows for pair in row.scores.items() for item in pair]


def inspect(path: str) -> Any:
    """What `inspect` gives."""
    import qdeploy

    return json.loads(json.dumps(qdeploy.inspect(path), default=str))


def evaluate(directory: str) -> list[Any]:
    """Figures of a few rows that are the same in every run."""
    import qdeploy

    report = qdeploy.evaluate(directory, latency=False, limit=16)
    int8 = {name: report["int8"][name] for name in ("planned", "executed", "flops_share")}
    return [report["metrics"], int8, report["target"], report["strategy"]]


def build(model: str, engine: str, strategy: str = "w8a8", force: bool = False) -> list[Any]:
    """Build an engine; its answers."""
    import qdeploy

    options: dict[str, Any] = {} if strategy == "fp32" else {"calibration_rows": 8}
    qdeploy.build(model, engine, strategy=strategy, force=force, **options)
    return answers(engine)


def cli(*arguments: str) -> dict[str, Any]:
    """A command line in this process: its exit code and what it said."""
    from qdeploy.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}


def threads(directory: str, count: int, calls: int) -> dict[str, Any]:
    """One predictor in several threads: how many answers were right, wrong, or no answer."""
    import qdeploy

    engine = qdeploy.load(directory)
    texts = [[(f"river {at}", f"the king {at} is long " * (1 + at % 9))] for at in range(count)]
    expected = [list(engine.predict(text)[0].scores.values()) for text in texts]
    found: dict[str, Any] = {"right": 0, "wrong": 0, "failed": 0, "error": ""}
    lock = threading.Lock()
    together = threading.Barrier(count)

    def work(at: int) -> None:
        together.wait()
        for _ in range(calls):
            try:
                same = list(engine.predict(texts[at])[0].scores.values()) == expected[at]
                outcome = "right" if same else "wrong"
            except Exception as error:
                outcome, found["error"] = "failed", f"{type(error).__name__}: {error}"
            with lock:
                found[outcome] += 1

    running = [threading.Thread(target=work, args=(at,)) for at in range(count)]
    for one in running:
        one.start()
    for one in running:
        one.join()
    return found


CALLS = {f.__name__: f for f in (answers, inspect, evaluate, build, cli, threads)}


def _peak_mb() -> int:
    """Most memory of this process; `ru_maxrss` begins with that of the one that started it."""
    lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) // 1024


def main() -> None:
    """Answer calls until standard input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no reply
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    with contextlib.suppress(OSError):  # the first to go where memory is short
        Path("/proc/self/oom_score_adj").write_text("1000")
    for line in sys.stdin:
        name, arguments = json.loads(line)
        began = time.process_time()
        try:
            reply: dict[str, Any] = {"value": CALLS[name](*arguments)}
        except BaseException as error:
            classes = [f"{c.__module__}.{c.__name__}" for c in type(error).__mro__]
            text = "".join(traceback.format_exception(error))
            reply = {"classes": classes, "text": str(error), "traceback": text[-2000:]}
        reply["cpu_s"] = time.process_time() - began
        reply["peak_mb"] = _peak_mb()
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
