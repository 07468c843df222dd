"""`python -m qdeploy` is the command `qdeploy`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Run the command line; a signal while it is imported says what is true and is no traceback.

    `qdeploy.cli.signals.listening` takes over from here, without a moment between.
    """
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _ended)
    try:
        from qdeploy.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted: nothing was written.\n")
        return 130
    code = run()
    if code > _SIGNALLED:
        # Python ends itself by SIGINT where an interrupt came in the middle of exec() of a text,
        # as dataclasses are made, though it was caught and told since
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    return code


_SIGNALLED = 128  # and the signal's number, as shells count
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _ended(number: int, _: FrameType | None) -> None:
    os.write(2, f"Ended by {signal.Signals(number).name}: nothing was written.\n".encode())
    os._exit(128 + number)


_ended.early = True  # type: ignore[attr-defined]  # for `listening`


if __name__ == "__main__":
    sys.exit(main())
