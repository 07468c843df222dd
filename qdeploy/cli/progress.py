"""Progress on standard error: live lines on a terminal, lines of a log elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from abc import ABC, abstractmethod
from types import TracebackType

from qdeploy.cli import streams
from qdeploy.cli.steps import Step, Steps, duration
from qdeploy.text import visible

_LOG_S = 10.0  # a log gets a sign of life about this often, and no more
_DRAW_S = 0.25  # a redraw takes 0.1 ms, which even a run that is timed does not notice
_MOST_LINES = 3  # steps within steps that are drawn
_BAR = 12  # cells
_LEAST_NAME = 10  # cells; in a narrower terminal nothing but the name is shown
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"  # some terminals are smaller before they say so
_TIME = 11  # cells; "12 min 07 s"


def drawing() -> Drawing:
    """What shows progress where standard error leads to."""
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return LogProgress() if dumb or not sys.stderr.isatty() else LiveProgress()


class Drawing(ABC):
    """Shows steps from its `update`, and every now and then by itself, while it is entered."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._steps = Steps()
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)

    def __enter__(self) -> Drawing:
        self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._ticker.is_alive():
            self._ticker.join()
        with self._lock:
            ended = self._steps.close(time.monotonic())
            if kind is not None and issubclass(kind, BrokenPipeError):
                ended = []  # the reader (`| head`) left, which is no failure
            self._show(ended, None, failed=kind is not None)

    def update(self, stage: str, done: int, total: int) -> None:
        """Say how far `stage` is; `total` 0 means that nobody knows."""
        with self._lock:
            name = visible(stage, lines=False)
            began, ended = self._steps.update(name, done, total, time.monotonic())
            started = next((s for s in self._steps.running if s.name == name), None)
            self._show(ended, started if began else None, failed=False)

    def _tick(self) -> None:
        while not self._over.wait(self._every_s):
            with self._lock:
                self.tick()

    @abstractmethod
    def tick(self) -> None:
        """Show that time passes."""

    @abstractmethod
    def _show(self, ended: list[Step], began: Step | None, *, failed: bool) -> None:
        """Show steps that ended (`failed`: an error or a signal ended them), and one that began."""


class LogProgress(Drawing):
    """A line when a step begins, one when it ends, and one about every ten seconds between."""

    def __init__(self) -> None:
        super().__init__(every_s=1.0)
        self._last = time.monotonic()

    def tick(self) -> None:
        """Say how far the innermost step is, if nothing was said for ten seconds."""
        now, running = time.monotonic(), self._steps.running
        if running and now - self._last >= _LOG_S:
            step = running[-1]
            count = f"{step.done} of {step.total}, " if step.counted else ""
            left = _left(step, now)
            self._say(f"{step.name}: {count}{duration(step.elapsed(now))} so far{left}", now)

    def _show(self, ended: list[Step], began: Step | None, *, failed: bool) -> None:
        now = time.monotonic()
        for step in ended:
            how = "not finished after" if failed else "done in"
            self._say(f"{step.name}: {how} {duration(step.elapsed(now))}", now)
        if began is not None:
            self._say(began.name, now)
        elif not ended:
            self.tick()

    def _say(self, text: str, now: float) -> None:
        self._last = now
        streams.say(text)


class LiveProgress(Drawing):
    """One live line per running step; a step that ended leaves one line above, with its time.

    The cursor waits at the start of the first live line. Whatever a resized terminal made of the
    lines, clearing from there to the end of the screen removes them; and a process that is killed
    leaves a cursor that is visible.
    """

    def __init__(self) -> None:
        super().__init__(every_s=_DRAW_S)
        self._idle = Step("starting", time.monotonic())  # shown while no step runs
        self._turn = 0
        self._closed = False
        self._colour = "NO_COLOR" not in os.environ or not os.environ["NO_COLOR"]
        self._wheel = _encodable("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\")
        self._done_mark, self._failed_mark = _encodable("✓", "+"), _encodable("✗", "x")
        self._full, self._empty = _encodable("━", "="), _encodable("┄", ".")
        self._more = _encodable("…", "~")

    def __enter__(self) -> Drawing:
        streams.draw(self)
        self.tick()
        return super().__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
        try:
            super().__exit__(kind, error, trace)
        finally:
            streams.draw(None)

    def tick(self) -> None:
        """Draw the live lines anew."""
        self._turn += 1
        self._write("")

    def above(self, text: str) -> None:
        """Print a text that is to stay, above the live lines."""
        with self._lock:
            self._write(f"{text}\n")

    def close(self) -> None:
        """Remove the live lines."""
        self._over.set()
        with self._lock:
            self._closed = True
            self._write("")

    def _show(self, ended: list[Step], began: Step | None, *, failed: bool) -> None:
        if ended or began is not None:
            mark, code = (self._failed_mark, "31") if failed else (self._done_mark, "32")
            width = _size()[0] - 1
            lines = [
                self._line(mark, code, step, " (not finished)" if failed else "", width) + "\n"
                for step in ended
            ]
            self._idle = Step("working", time.monotonic())
            self._write("".join(lines))

    def _write(self, above: str) -> None:
        """Replace the live lines by a text that stays, and new live lines below it."""
        width, height = _size()
        most = max(1, min(_MOST_LINES, height - 2))
        rows = [] if self._closed else self._live(width - 1)[-most:]
        back = f"\x1b[{len(rows) - 1}A" if len(rows) > 1 else ""
        # line by line, and last what is left of older ones: tmux keeps a copy of a screen
        # that is cleared from its first cell on
        stays, below = above.replace("\n", "\x1b[K\n"), "\x1b[K\n".join(rows)
        streams.put(f"\r{stays}{_NO_WRAP}{below}\x1b[K\x1b[J{_WRAP}{back}\r")

    def _live(self, width: int) -> list[str]:
        """The lines of what runs, none wider than `width` cells."""
        now = time.monotonic()
        running = self._steps.running or [self._idle]
        mark = self._wheel[self._turn % len(self._wheel)]
        return [self._line(mark, "36", s, self._tail(s, now, width), width, now) for s in running]

    def _tail(self, step: Step, now: float, width: int) -> str:
        """How far a step is, as long as there is room for."""
        if not step.counted:
            return ""
        count, left = f"  {step.done} of {step.total}", _left(step, now)
        full = min(_BAR * step.done // step.total, _BAR)
        bar = f"  {self._full * full}{self._empty * (_BAR - full)}"
        room = width - _TIME - 4 - _cells(step.name)
        for tail in (bar + count + left, count + left, count):
            if len(tail) <= room:
                return tail
        return count if room + _cells(step.name) >= len(count) + _LEAST_NAME else ""

    def _line(
        self, mark: str, code: str, step: Step, tail: str, width: int, now: float = 0.0
    ) -> str:
        """`✓       4.2 s  name`, cut to the width where it must be."""
        head = f"{duration(step.elapsed(now)):>{_TIME}}  "
        room = max(width - 1 - len(head) - len(tail), 1)
        name = _cut(step.name, room, self._more)
        text = _cut(f"{head}{name}{tail}", max(width - 1, 0), self._more)
        return f"\x1b[{code}m{mark}\x1b[0m{text}" if self._colour else f"{mark}{text}"


def _left(step: Step, now: float) -> str:
    left = step.left(now)
    return "" if left is None else f", about {duration(left)} left"


def _size() -> tuple[int, int]:
    """Columns and lines of the terminal as it is now; of one that does not say, 80 × 24."""
    try:
        columns, lines = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return 80, 24
    return columns or 80, lines or 24


def _encodable(text: str, plain: str) -> str:
    """A text, or its plain form where standard error cannot write it."""
    try:
        text.encode(getattr(sys.stderr, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return plain
    return text


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _cut(text: str, width: int, more: str) -> str:
    """At most so many cells of a text, the last one a sign that some were left out."""
    from rich.cells import set_cell_size

    if _cells(text) <= width:
        return text
    return set_cell_size(text, max(width - 1, 0)).rstrip() + more if width > 0 else ""
