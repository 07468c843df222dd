"""A command in a terminal of its own, whose screen is emulated: what a person would see."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyte

ROOT = Path(__file__).parents[2]
WHEEL = frozenset("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
DONE, FAILED = "✓", "✗"
_MOST_LIVE = 3


class Screen(pyte.HistoryScreen):
    """A screen that notes lines which were wider than it."""

    def __init__(self, columns: int, lines: int) -> None:
        super().__init__(columns, lines, history=10_000, ratio=0.5)
        self.wrapped: list[str] = []
        self._goes_on = False

    def draw(self, data: str) -> None:
        for character in data:
            wraps = self.cursor.x == self.columns and pyte.modes.DECAWM in self.mode
            if wraps and not self._goes_on:
                self.wrapped.append(self.display[self.cursor.y].rstrip())
            super().draw(character)
            self._goes_on = self._goes_on or wraps

    def linefeed(self) -> None:
        super().linefeed()
        self._goes_on = False

    @property
    def rows(self) -> list[str]:
        """Every line from the first on, those that scrolled off included."""
        gone = ["".join(row[x].data for x in range(self.columns)) for row in self.history.top]
        return [row.rstrip() for row in [*gone, *self.display]]

    @property
    def text(self) -> str:
        """All lines, without the empty ones at the end."""
        return "\n".join(self.rows).rstrip()


class Terminal:
    """A process in a terminal of this size; its screen is looked at after every piece of output."""

    def __init__(self, *command: str, columns: int = 80, lines: int = 24, **settings: str) -> None:
        self.screen = Screen(columns, lines)
        self.raw = b""
        self.most_live = 0
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = os.openpty()
        self._resize(columns, lines)
        unwanted = ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR")
        environment = {name: value for name, value in os.environ.items() if name not in unwanted}
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment |= {"TERM": "xterm-256color", "PYTHONUTF8": "1", "PYTHONPATH": path} | settings
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def until(self, seen: Callable[[Screen], bool], timeout: float = 60) -> None:
        """Read until the screen is as wanted."""
        end = time.monotonic() + timeout
        while not seen(self.screen):
            assert time.monotonic() < end, f"never seen:\n{self.screen.text}"
            assert self._read(1.0), f"the command ended:\n{self.screen.text}"

    def finish(self, timeout: float = 300) -> int:
        """Read to the end; the exit code."""
        end = time.monotonic() + timeout
        while self._read(1.0):
            assert time.monotonic() < end, f"no end:\n{self.screen.text}"
        return self.process.wait()

    def type(self, keys: bytes) -> None:
        """Press keys; Ctrl-C is b"\\x03"."""
        os.write(self._master, keys)

    def resize(self, columns: int, lines: int) -> None:
        """Another size of the window, which the process is told a while later, as tmux does."""
        self.screen.resize(lines, columns)
        before = len(self.raw)
        self.until(lambda _: len(self.raw) > before + 300)
        self._resize(columns, lines)

    def _resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self, wait: float) -> bool:
        """Take what there is; False where the other side was closed."""
        if not select.select([self._master], [], [], wait)[0]:
            return self.process.poll() is None
        piece = b""
        with contextlib.suppress(OSError):  # Linux: nobody holds the other side any more
            piece = os.read(self._master, 65536)
        if not piece:
            return False
        self.raw += piece
        self._stream.feed(piece)
        live = [row for row in self.screen.rows if row[:1] in WHEEL]
        self.most_live = max(self.most_live, len(live))
        assert len(live) <= _MOST_LIVE, f"live lines were left behind:\n{self.screen.text}"
        return True


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def is_clean(terminal: Terminal) -> bool:
    """Whether a command left the terminal as it was: a cursor on an empty line, nothing live."""
    screen: Any = terminal.screen
    return (
        not screen.cursor.hidden
        and screen.cursor.x == 0
        and not screen.display[screen.cursor.y].strip()
        and not any(row[:1] in WHEEL for row in screen.rows)
    )
