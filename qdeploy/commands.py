"""Commands that a user can paste as they are: whatever a file is called, and whatever stands there.

Every "Next:" line and every command in a report comes from here.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from qdeploy.text import beside, visible


def command(*words: str | Path, options: Mapping[str, object] | None = None) -> str:
    """A command of qdeploy for a shell.

    Args:
        words: the command's name as text, and what it takes: a `Path` is never read as an option.
        options: names as in Python, with their values; True is a flag, and None and False are left
            out.

    >>> command("eval", Path("my engine"), options={"baseline": "fp32", "no_accuracy": True})
    "qdeploy eval 'my engine' --baseline fp32 --no-accuracy"
    >>> command("build", Path("-x"), Path("it's"))
    'qdeploy build ./-x \\'it\\'"\\'"\\'s\\''
    """
    found = ["qdeploy", *(_place(word) for word in words)]
    for name, value in (options or {}).items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(flag)
        elif value is not None and value is not False:
            text = str(value)
            found += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
    return " ".join(map(quoted, found))


def quoted(word: str) -> str:
    r"""A word as a shell takes it; characters that no screen shows are written as their bytes.

    The form `$'…'` is that of bash, zsh and POSIX 2024.

    >>> print(quoted("a b"), quoted("a\x1b[31mb"))
    'a b' $'a\033[31mb'
    """
    if visible(word, lines=False) == word:
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, word)) + "'"


def _escaped(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if visible(character, lines=False) == character:
        return character
    # three octal digits end by themselves: a digit behind them is one of the name
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(character))


def free_place(path: str | Path, word: str) -> Path:
    """A path beside another that says what is made for it; with a number where one is there.

    Args:
        path: of what is there.
        word: see `qdeploy.text.beside`.
    """
    wanted = found = beside(path, word)
    number = 1
    while os.path.lexists(found):
        number += 1
        found = wanted.with_name(f"{wanted.name}-{number}")
    return found


def _place(word: str | Path) -> str:
    text = str(word)
    return f"./{text}" if isinstance(word, Path) and text.startswith("-") else text
