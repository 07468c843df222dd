"""Signals that ask a command to end: cleanup runs, whichever it was."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_CLEANUP_S = 10.0  # so long after the first one, further ones are ignored


class Asked:
    """Whether the command was asked to end, and by which signal.

    The first signal interrupts like Ctrl-C. What it interrupts then cleans up, and is left alone
    for a while: a second one would leave half of that undone.

    Attributes:
        number: of the first signal; 0 where there was none.
    """

    def __init__(self) -> None:
        self.number = 0
        self._at = 0.0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Interrupt the main thread, as soon as it runs Python again."""
        now = time.monotonic()
        if self.number and now - self._at < _CLEANUP_S:
            return
        self.number, self._at = self.number or number, now
        raise KeyboardInterrupt

    @property
    def exit_code(self) -> int:
        """As shells count: 128 and the number of the signal."""
        return 128 + (self.number or signal.SIGINT)

    @property
    def word(self) -> str:
        """How the command ended, to begin a sentence with."""
        if self.number in (0, signal.SIGINT):
            return "Interrupted"
        return f"Ended by {signal.Signals(self.number).name}"


@contextlib.contextmanager
def listening(*, to_the_end: bool = False) -> Iterator[Asked]:
    """Take the signals of `Asked` within the block; those that are ignored stay so.

    Args:
        to_the_end: the process ends behind the block: all is done and said, and a signal in its
            last milliseconds changes nothing.

    Elsewhere than in the main thread, where Python allows none, handlers stay as they are.
    """
    asked = Asked()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in _NAMES:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is None:
                continue
            handler = signal.getsignal(number)
            usual = handler in (signal.SIG_DFL, signal.default_int_handler)
            if usual or getattr(handler, "early", False):  # of `qdeploy.__main__`
                before[number] = signal.signal(number, asked.handle)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            # Python takes its own handlers away while it ends, and leaves those that ignore
            signal.signal(number, signal.SIG_IGN if to_the_end else handler)
