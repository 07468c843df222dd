"""A page as data, and the one HTML file that it becomes: no script, no font, nothing fetched."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources

import qdeploy
from qdeploy.errors import OutputError
from qdeploy.remedies import install_command
from qdeploy.text import visible


def remedy() -> str:
    """What to type where the packages of reports are missing."""
    return f"Reports and pictures need more packages. Type: {install_command('report')}"


@dataclass(frozen=True)
class Card:
    """One figure of the headline: a value, what it is, and "good", "bad" or ""."""

    value: str
    label: str
    mood: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table; text is set to the left, figures to the right."""

    title: str
    text: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table, and "good", "bad" or ""."""

    cells: tuple[str, ...]
    mood: str = ""


@dataclass(frozen=True)
class Table:
    """Columns and rows, all cells as text."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Picture:
    """A drawing (an `<svg>` element) and what it shows, for those who cannot see it too."""

    svg: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A heading, and what stands below it, in this order."""

    title: str
    items: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    table: Table | None = None
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A whole report.

    Attributes:
        title: of the browser's tab.
        kicker: the line above the headline: what was looked at.
        headline: the result in one sentence.
        warnings: what should make the reader stop.
        cards: the figures of the headline.
        sections: the rest.
        footer: versions and command.
    """

    title: str
    kicker: str
    headline: str
    sections: tuple[Section, ...]
    cards: tuple[Card, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    footer: str = ""


def render(page: Page) -> str:
    """The page as one HTML document; every text in it is escaped.

    Raises:
        OutputError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError:
        raise OutputError(remedy()) from None
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    source = resources.files("qdeploy.report").joinpath("page.html").read_text("utf-8")
    return environment.from_string(source).render(page=page, version=qdeploy.__version__)
