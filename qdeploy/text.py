"""Foreign text made harmless: paths, labels and node names are never markup or commands.

Whoever names a file, a class or a node may be somebody else. On a terminal an escape sequence moves
the cursor or hides a line, and a right-to-left override turns a name around (CVE-2021-42574).
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

# Control characters of C0 and C1 but line feed, line and paragraph separators, and characters that
# turn the direction of text (Unicode Standard Annex #9); half of a surrogate pair.
_HARMFUL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LONGEST = 200  # characters of a file's name, of the 255 bytes that there are
_SURROGATE = re.compile("[\ud800-\udfff]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~$&-])")


def visible(text: str, *, lines: bool = True) -> str:
    r"""The text with every harmful character as a visible escape.

    Args:
        text: of anybody.
        lines: leave line feeds; else they are escaped too.

    >>> visible("a\x1b[31mb")
    'a\\x1b[31mb'
    >>> visible("undecodable \udcff")
    'undecodable \\xff'
    """
    found = _HARMFUL.sub(lambda match: _escape(match.group()), text)
    return found if lines else found.replace("\n", "\\n")


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8, as Python keeps it in a path
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def is_utf8(path: object) -> bool:
    """Whether a path has a name that other programs can be told."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def json_text(text: str) -> str:
    """JSON in which a byte of a path that is no UTF-8 is the text `\\xff`: no JSON can hold it."""
    return _SURROGATE.sub(lambda match: "\\" + _escape(match.group()), text)


def markdown(text: str) -> str:
    r"""The text as one line of plain Markdown, also in a table.

    >>> markdown("[x](y) | `z`")
    '\\[x\\]\\(y\\) \\| \\`z\\`'
    """
    return _MARKDOWN.sub(r"\\\1", visible(text, lines=False))


def mathless(text: str) -> str:
    r"""The text for matplotlib, which takes `$x$` for a formula.

    >>> mathless("$x_1$")
    '\\$x_1\\$'
    """
    return visible(text, lines=False).replace("$", r"\$")


def file_name(text: str) -> str:
    r"""The text as the name of a file: one that leads nowhere, and that every file system takes.

    >>> file_name("encoder.layer.0.input")
    'encoder.layer.0.input'
    >>> file_name("../../x")
    '_.._x-f2eb5b0a'
    """
    plain = re.sub(r"^\.+|[^\w.+-]+", "_", text, flags=re.ASCII)[:_LONGEST]
    return plain if plain == text else f"{plain}-{_digest(text)}"


def beside(path: str | Path, word: str) -> Path:
    """The name next to a path that says what is made for it.

    >>> beside("out/engine", "fp32").as_posix()
    'out/engine-fp32'
    """
    found = Path(path)
    if found.name in ("", ".."):  # of `.` and `..`
        found = Path(os.path.abspath(found))
    return found.with_name(f"{found.name}-{word}")


def _digest(text: str) -> str:
    """Tells two texts apart whose plain forms are alike."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
