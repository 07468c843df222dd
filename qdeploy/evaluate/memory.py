"""Peak memory of a fresh process that loads one engine and runs it.

`python -m qdeploy.evaluate.memory ENGINE_DIR --threads 2 --batch-size 8 --seq-len 128`
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from qdeploy.errors import ModelError
from qdeploy.machine.faults import machine_fault
from qdeploy.machine.tied import run_tied
from qdeploy.schemas.evaluation import Memory

_MB = 1e6  # bytes; as in size_mb
_RUNS = 3


def peak_memory(
    engine_dir: str | Path, *, threads: int = 2, batch_size: int = 8, seq_len: int = 128
) -> Memory:
    """Start a fresh process, load the engine, run it three times, and ask for its peak.

    Returns:
        `peak`: the most that was resident, MB of 10⁶ bytes; `interpreter`: what was before the
        engine was loaded (Python and numpy); of engines on a GPU `device`: what they took there.

    Raises:
        ModelError: the process failed; the text ends with its last line.
    """
    arguments = [str(engine_dir)]
    options = {"--threads": threads, "--batch-size": batch_size, "--seq-len": seq_len}
    for flag, value in options.items():
        arguments += [flag, str(value)]
    done = run_tied("qdeploy.evaluate.memory", arguments)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        if (fault := machine_fault(RuntimeError(last))) is not None:
            raise fault
        raise ModelError(f"{engine_dir} does not load in a process of its own: {last}")
    found: Memory = json.loads(done.stdout)
    return found


def resident_peak() -> int:
    """The most memory that this process ever had resident, bytes.

    Read from VmHWM: `ru_maxrss` is inherited over fork, so that a child of a large process would
    report its parent. It is the fallback where there is no /proc.
    """
    try:
        status = Path("/proc/self/status").read_text("ascii", "replace")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return _resident_peak_of_resource()


def _resident_peak_of_resource() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, others KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _run(engine_dir: str, threads: int, batch_size: int, seq_len: int) -> Memory:
    from qdeploy.deploy.open import device_memory_mb, open_engine

    before = resident_peak()
    on_device = device_memory_mb(engine_dir)
    engine = open_engine(engine_dir, threads=threads)
    shape = (batch_size, seq_len)
    # token 1 exists in every vocabulary, type 0 in every model that has types
    feeds = {
        name: np.full(shape, name != "token_type_ids", np.int64) for name in engine.input_names
    }
    for _ in range(_RUNS):
        engine.run(feeds)
    found: Memory = {"peak": resident_peak() / _MB, "interpreter": before / _MB}
    if on_device is not None:
        found["device"] = (device_memory_mb(engine_dir) or 0.0) - on_device
    return found


def main(arguments: list[str] | None = None) -> None:
    """Entry of the fresh process: prints JSON on standard output."""
    parser = argparse.ArgumentParser(description="Peak memory of one engine, as JSON.")
    parser.add_argument("engine_dir")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=128)
    args = parser.parse_args(arguments)
    print(json.dumps(_run(args.engine_dir, args.threads, args.batch_size, args.seq_len)))


if __name__ == "__main__":
    main()
