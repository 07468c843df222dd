"""A page as data, and the one HTML file that it becomes: no script, no font, nothing fetched."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources

from qdeploy._package import __version__
from qdeploy.errors import OutputError
from qdeploy.machine.remedies import install_command
from qdeploy.text import visible


def remedy() -> str:
    """What to type where the packages of reports are missing."""
    return f"Reports and pictures need more packages. Type: {install_command('report')}"


_LONG = 40  # characters of a text that is given more room
_FIGURE = 24  # and of a figure that stays on its line


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
    """Columns and rows, all cells as text; columns without any text are not drawn."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def shown(self) -> tuple[int, ...]:
        """Numbers of the columns that hold anything; all of them where there is no row."""
        return tuple(
            at
            for at in range(len(self.columns))
            if not self.rows or any(row.cells[at] for row in self.rows)
        )

    def style(self, at: int, cell: str) -> str:
        """CSS classes of a cell: names stay in one piece, and long texts get room."""
        if not self.columns[at].text:
            return "figure name" if len(cell) <= _FIGURE else "figure"
        if " " not in cell:
            return "text name"
        return "text long" if len(cell) > _LONG else "text"


@dataclass(frozen=True)
class Picture:
    """A drawing, and what it shows.

    Attributes:
        svg: an `<svg>` element for wide windows.
        alt: what it shows, for those who cannot see it.
        narrow: the same drawing for a telephone.
        caption: what to read from it; not its title again.
    """

    svg: str
    alt: str
    narrow: str
    caption: str = ""


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


_MOST_CARDS = 5  # side by side


def card_columns(count: int) -> int:
    """How many cards stand side by side, so that none is alone in the last row.

    >>> [card_columns(n) for n in (1, 3, 5, 6, 7, 8, 11)]
    [1, 3, 5, 3, 4, 4, 4]
    """
    if count <= _MOST_CARDS:
        return max(count, 1)
    choices = range(_MOST_CARDS, 2, -1)
    return min(choices, key=lambda n: (-count % n, -n))


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
    return environment.from_string(source).render(
        page=page, card_columns=card_columns(len(page.cards)), version=__version__
    )
