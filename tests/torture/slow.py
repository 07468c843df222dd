"""A build that says when it is at its Nth step and waits there; started by its file's path.

    python slow.py MODEL ENGINE STEP

Prints "there" at the step and reads a line; then "done", or the error's class and text.
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import qdeploy


def main() -> None:
    """Build, with a pause."""
    model, engine, step = sys.argv[1], sys.argv[2], int(sys.argv[3])
    calls = 0

    def progress(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == step:
            print("there", flush=True)
            sys.stdin.readline()

    warnings.simplefilter("ignore")
    try:
        qdeploy.build(model, engine, strategy="fp32", progress=progress)
        print("done")
    except Exception as error:
        print(f"{type(error).__module__}.{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
