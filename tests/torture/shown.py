"""What is written to a terminal or a page, and whether a name in it is text."""

from __future__ import annotations

import html.parser
import re
from pathlib import Path

from rich.errors import MarkupError
from rich.text import Text

# Line breaks and tabs of a table apart, nothing but text reaches a terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def fault(text: str, name: str) -> str:
    """What is wrong with how a name is shown; empty where all is well.

    Args:
        text: what went to standard output and error.
        name: a part of a path or a label, as it is.
    """
    if found := _CONTROL.search(text):
        return f"{found.group()!r} is written to the terminal"
    if "\n" in name and name in text:
        return "a name breaks the line"
    plain = _unmarked(name)
    if plain != name and plain.strip() and len(name) < 200:
        # Where a name stands behind a slash or a space, it is all there.
        eaten = re.search(rf"(?<=[/ ]){re.escape(plain)}(?![\w\[])", text)
        if eaten and name not in text and not _CONTROL.search(name):
            return f"{name!r} is shown as {plain!r}"
    return ""


def _unmarked(name: str) -> str:
    """A name as rich would show it, were it markup."""
    try:
        return Text.from_markup(name).plain
    except MarkupError:
        return name


class _Outline(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found |= {tag, *(f"{tag} {name}" for name, _ in attrs)}


def outline(page: Path) -> set[str]:
    """Tags of a page, and their attributes: the same whatever its texts are."""
    if not page.is_file():
        return set()
    parser = _Outline()
    parser.feed(page.read_text("utf-8", errors="replace"))
    return parser.found
