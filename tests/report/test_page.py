"""The page: one file, nothing fetched, everything escaped; and written whole or not at all."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from qdeploy.errors import OutputError
from qdeploy.files.whole import write_file
from qdeploy.report.page import Card, Column, Page, Row, Section, Table, render
from qdeploy.report.pictures import as_png, as_svg, heat_map, intervals, levels, lines, scatter

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

NASTY = '<script>alert("x")</script> & "quoted"'


class Tags(HTMLParser):
    """Elements of a page, and whether each is closed."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page() -> Page:
    picture = as_svg(lines({"a": ([0, 1], [2, 3])}, "x", "y", "title"), f"a line {NASTY}")
    table = Table((Column("name", text=True), Column("value")), (Row((NASTY, "1"), "bad"),))
    section = Section(NASTY, items=(NASTY,), pictures=(picture,), table=table, note=NASTY)
    return Page(NASTY, NASTY, NASTY, (section,), (Card(NASTY, NASTY, "good"),), (NASTY,), NASTY)


def test_one_file_that_fetches_nothing() -> None:
    text = render(page())
    parser = Tags()
    parser.feed(text)
    assert not parser.open
    names = {tag for tag, _ in parser.seen}
    assert "script" not in names and "iframe" not in names and "img" not in names
    for tag, attributes in parser.seen:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name) or ""
            assert value.startswith(("#", "data:")) or not value, (tag, value)
    assert not re.search(r"@import|url\((?!#)", text)


def test_whatever_a_name_holds_is_text() -> None:
    text = render(page())
    assert "<script>" not in text
    assert text.count("&lt;script&gt;alert(&#34;x&#34;)") >= 8


def test_the_same_page_twice_is_the_same_file() -> None:
    assert render(page()) == render(page())


def test_every_picture_can_be_drawn(tmp_path: Path) -> None:
    counts = [0] * 511
    counts[255], counts[300] = 90, 10
    drawings = [
        heat_map([[0.0, 1.0], [2.0, 3.0]], ["a", "b"], "log", "title"),
        lines({"a": ([0, 1], [2.0, 30.0])}, "x", "y", "title", log=True),
        levels(counts, counts, ("before", "after")),
        intervals([("a", 0.5, 0.4, 0.6), ("b", 0.7, 0.6, 0.8)], "title"),
        scatter([("a", 1.0, 2.0, 3.0, True), ("b", 2.0, 1.0, 9.0, False)], "x", "y", "title"),
    ]
    for index, draw in enumerate(drawings):
        assert as_svg(draw, "what").svg.startswith("<svg")
        path = tmp_path / f"{index}.png"
        as_png(draw, path)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    write_file("--html", path, b"one")
    write_file("--html", path, b"two")
    assert path.read_text() == "two" and [p.name for p in tmp_path.iterdir()] == ["r.html"]
    with pytest.raises(OutputError, match="--html .*r.html was not written: .* does not exist"):
        write_file("--html", tmp_path / "nowhere" / "r.html", b"x")
