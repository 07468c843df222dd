"""Sentences of a Markdown page, and how many words each has.

`python -m tests.sentences [FILE…]` prints mean and longest of each page.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MEAN, MOST = 20, 30  # words
_FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_CODE = re.compile(r"`[^`]*`")
_BLOCK = re.compile(r"^\s*([-*+]|\d+[.)]|>)\s+")
_END = re.compile(r"(?<=[.!?])[)\"'*_]*\s+")
_SHORT = re.compile(r"\b(e\.g|i\.e|etc|vs|cf|al|No|Fig|approx)\.(?=\s)")


def pages() -> list[Path]:
    """README and every page of the docs that a person wrote; the decisions of `docs/adr` too."""
    docs = sorted((ROOT / "docs").rglob("*.md"))
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(p for p in docs if p.name != "cli.md")]


def sentences(text: str) -> list[str]:
    """The sentences of a page's prose; headings, tables, code and pictures are none.

    A piece of code, a path or a command in a sentence is one word. Full stops, question marks and
    exclamation marks end a sentence; colons and semicolons do not.

    >>> sentences("# T\\n\\nOne is here. Two `a b c`\\ngoes on.\\n\\n- three\\n- four\\n")
    ['One is here.', 'Two code goes on.', 'three', 'four']
    """
    text = _FENCE.sub("\n", _COMMENT.sub("", text))
    text = _LINK.sub(r"\1", _CODE.sub("code", text))
    found: list[str] = []
    for block in _blocks(text):
        plain = _SHORT.sub(r"\1", block)
        found += [part.strip() for part in _END.split(plain) if re.search(r"\w", part)]
    return found


def _blocks(text: str) -> list[str]:
    """Paragraphs and list entries, each on one line."""
    blocks: list[str] = [""]
    for line in text.splitlines():
        if not line.strip() or line.startswith("#") or line.lstrip().startswith("|"):
            blocks.append("")
        elif _BLOCK.match(line):
            blocks.append(_BLOCK.sub("", line).strip())
        else:
            blocks[-1] = f"{blocks[-1]} {line.strip()}".strip()
    return [block for block in blocks if block]


def words(sentence: str) -> int:
    """Words, numbers with their units as one each."""
    return len(re.findall(r"[^\s—–]*\w[^\s—–]*", sentence))


def main(names: list[str]) -> None:
    """Print mean and longest of each page, and the sentences that are too long."""
    for page in [Path(name) for name in names] or pages():
        found = sentences(page.read_text("utf-8"))
        counts = [words(sentence) for sentence in found]
        mean = sum(counts) / max(len(counts), 1)
        print(f"{page}: {len(found)} sentences, mean {mean:.1f}, longest {max(counts, default=0)}")
        for sentence, count in zip(found, counts, strict=True):
            if names and count > MOST:
                print(f"  {count}: {sentence}")


if __name__ == "__main__":
    main(sys.argv[1:])
