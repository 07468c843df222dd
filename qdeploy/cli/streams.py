"""Standard streams that are closed, broken or full: no file takes their place, nothing crashes."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TextIO

import click

from qdeploy.text import visible

_broken: set[str] = set()


class Live(Protocol):
    """Something that is drawn on the terminal of standard error, and drawn anew as time passes."""

    def above(self, text: str) -> None:
        """Print a text that is to stay."""

    def close(self) -> None:
        """Remove what is drawn; once more is no error."""


_live: Live | None = None
_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def prepare() -> None:
    """Open the streams that are closed (`>&-`) on nothing, and let every name be printed.

    A file that is opened later would get the number of a closed one, and with it what C libraries
    print there.
    """
    for number, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def remember(words: Sequence[str]) -> None:
    """Note the names on the command line that have line breaks: `shown` tells them from its own."""
    _broken.clear()
    for word in words:
        if "\n" in word:
            _broken.update((word, str(Path(word)), Path(word).name))


def shown(text: str) -> str:
    """A text for the terminal: names in it are text alone, and stay on their line."""
    for name in sorted(_broken, key=len, reverse=True):
        text = text.replace(name, visible(name, lines=False))
    return visible(text)


def say(text: str) -> None:
    """Print on standard error, if anybody is there to read (`shown`)."""
    if _live is not None:
        _live.above(shown(text))
        return
    with contextlib.suppress(OSError, ValueError):
        click.echo(shown(text), err=True)


def draw(live: Live | None) -> None:
    """Let what is said stand above `live`; None closes what was drawn before."""
    global _live
    before, _live = _live, live
    if before is not None and before is not live:
        before.close()


def put(text: str) -> None:
    """Write to the terminal of standard error as it is, if it is still there."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def settle(code: int) -> int:
    """Write out what Python still holds, since an error at exit is a traceback.

    Args:
        code: exit code so far.

    Returns:
        The exit code: 2 in place of 0 where the output could not be written.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (`| head`) left
        _drop(sys.stdout)
    except OSError as error:
        _drop(sys.stdout)
        say(f"Error: {unwritable(error)}")
        code = code or 2
    except ValueError:  # it was closed
        pass
    try:
        sys.stderr.flush()
    except OSError:
        _drop(sys.stderr)
    except ValueError:
        pass
    return code


def unwritable(error: OSError) -> str:
    """What to say where standard output takes no more."""
    return f"Standard output cannot be written: {error.strerror or error}."


def _drop(stream: TextIO) -> None:
    """Lead a stream to nothing: what is held for it fails no more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        stream.flush()
