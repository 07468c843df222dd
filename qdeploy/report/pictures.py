"""Pictures of the reports, drawn by matplotlib as SVG or PNG."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from qdeploy.errors import OutputError
from qdeploy.files.whole import write_file
from qdeploy.machine.faults import explain
from qdeploy.report.page import Picture, remedy
from qdeploy.text import mathless

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# colour-blind safe (Okabe and Ito 2008), and told apart on paper too
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
Draw: TypeAlias = "Callable[[Figure], None]"
_WHOLE = 100.0  # %: where axes of percentages end


def _figure(width: float, height: float, draw: Draw) -> Figure:
    try:
        import matplotlib
        from matplotlib.figure import Figure as Drawing
    except ImportError:
        raise OutputError(remedy()) from None
    # text stays text (small files, searchable); the salt makes ids the same in every run
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "qdeploy", "font.size": 9}):
        figure = Drawing(figsize=(width, height), layout="constrained")
        draw(figure)
    return figure


WIDE, NARROW = 9.0, 3.9  # inches: drawings for a desk and for a telephone
_LETTERS = 11  # of a title, per inch
_STACKED = 6.0  # inches below which pairs of axes stand one above the other


def as_svg(
    draw: Draw, alt: str, *, height: float = 3.4, narrow: float = 3.4, caption: str = ""
) -> Picture:
    """A drawing for a page, once for wide windows and once for a telephone.

    Args:
        alt: what it shows.
        height, narrow: of the two drawings, inches.
        caption: see `Picture`.
    """
    wide = _svg(draw, WIDE, height, alt)
    return Picture(wide, alt, _svg(draw, NARROW, narrow, f"{alt}, narrow"), caption)


def _svg(draw: Draw, width: float, height: float, salt: str) -> str:
    """An `<svg>` element; the salt keeps its ids apart from those of others on the page."""
    import matplotlib

    figure = _figure(width, height, draw)
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _is_narrow(figure: Figure) -> bool:
    return bool(figure.get_figwidth() < _STACKED)


def _titled(figure: Figure, axes: Axes, title: str, share: float = 1.0) -> None:
    """A title over as many lines as its share of the figure's width asks for."""
    width = int(share * _LETTERS * figure.get_figwidth())
    axes.set_title("\n".join(textwrap.wrap(mathless(title), width)))


def _whole_numbers(axes: Axes) -> None:
    """No ticks between the whole numbers of x."""
    from matplotlib.ticker import MaxNLocator

    locator = axes.xaxis.get_major_locator()
    assert isinstance(locator, MaxNLocator)  # what linear axes have
    locator.set_params(integer=True)


def as_png(draw: Draw, path: Path, *, width: float = WIDE, height: float = 3.4) -> None:
    """A drawing as a PNG of 150 dots per inch.

    Raises:
        OutputError: it cannot be written.
    """
    figure, stream = _figure(width, height, draw), io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    write_file("--plot", path, stream.getvalue())


def picture_folder(folder: Path) -> None:
    """Make the folder of pictures where it is missing.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--plot {folder} was not made: {explain(error)}") from error


def heat_map(
    values: Sequence[Sequence[float]], rows: Sequence[str], label: str, title: str
) -> Draw:
    """Channel × depth: one row per site, one column per channel."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        image = axes.imshow(np.array(values), aspect="auto", cmap="magma", interpolation="nearest")
        axes.set_yticks(range(len(rows)), list(map(mathless, rows)))
        _whole_numbers(axes)
        axes.set_xlabel("channel")
        _titled(figure, axes, title)
        along = "horizontal" if _is_narrow(figure) else "vertical"
        figure.colorbar(image, ax=axes, label=label, orientation=along)

    return draw


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x_label: str,
    y_label: str,
    title: str,
    *,
    log: bool = False,
) -> Draw:
    """One line with points per name: (x, y)."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for index, (name, (x, y)) in enumerate(series.items()):
            color, marker = PALETTE[index % len(PALETTE)], "os^Dvx*"[index % 7]
            axes.plot(x, y, marker=marker, label=mathless(name), color=color)
        if log:
            axes.set_yscale("log")
        _whole_numbers(axes)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _titled(figure, axes, title)
        place: Literal["outside lower center", "outside right upper"]
        place = "outside lower center" if _is_narrow(figure) else "outside right upper"
        figure.legend(loc=place, frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)

    return draw


def levels(before: Sequence[int], after: Sequence[int], titles: tuple[str, str]) -> Draw:
    """How often each level code − zero point is used, before and after, shares on a log scale."""

    def draw(figure: Figure) -> None:
        rows, columns = (2, 1) if _is_narrow(figure) else (1, 2)
        pair = figure.subplots(rows, columns, sharey=True)
        for axes, counts, title, color in zip(
            pair, (before, after), titles, (PALETTE[1], PALETTE[2]), strict=True
        ):
            found = np.array(counts, float)
            half = len(found) // 2
            axes.bar(np.arange(-half, half + 1), found / found.sum(), width=1.0, color=color)
            used = np.flatnonzero(found) - half
            axes.set_xlim(used.min() - 3, used.max() + 3)
            axes.set_yscale("log")
            _titled(figure, axes, title, share=1 / columns)
            axes.set_xlabel("level (code − zero point)")
            axes.spines[["top", "right"]].set_visible(False)
        for axes in pair[:rows]:
            axes.set_ylabel("share of values")

    return draw


def intervals(points: Sequence[tuple[str, float, float, float]], title: str) -> Draw:
    """A percentage with its interval (low, high) per name, the first on top."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for index, (_, value, low, high) in enumerate(points):
            axes.plot([low, high], [index, index], color=PALETTE[index % len(PALETTE)], linewidth=2)
            axes.plot(value, index, "o", color=PALETTE[index % len(PALETTE)])
            axes.annotate(f"{value:.2f}", (value, index), (0, 6), textcoords="offset points")
        axes.set_yticks(range(len(points)), [mathless(name) for name, *_ in points])
        axes.set_ylim(len(points) - 0.4, -0.8)
        axes.set_xlim(right=min(axes.get_xlim()[1], _WHOLE))
        _titled(figure, axes, title)
        axes.spines[["top", "right"]].set_visible(False)

    return draw


def scatter(
    points: Sequence[tuple[str, float, float, float, bool]], x_label: str, y_label: str, title: str
) -> Draw:
    """Points (name, x, y in %, size, on the front), all named; the front is joined."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        biggest = max(size for *_, size, _ in points)
        for _, x, y, size, front in points:
            color = PALETTE[2] if front else PALETTE[1]
            area = 20 + 160 * size / biggest
            # a dot at 100 % is drawn whole, over the edge of the axes
            axes.scatter(x, y, s=area, color=color, alpha=0.6, linewidths=0, clip_on=False)
        best = sorted((x, y) for _, x, y, _, front in points if front)
        axes.plot(*zip(*best, strict=True), color=PALETTE[2], linewidth=1, linestyle="--")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _titled(figure, axes, title)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.12, y=0.06)
        axes.set_ylim(top=min(axes.get_ylim()[1], _WHOLE))
        figure.draw_without_rendering()  # settles the scales that labels are placed by
        texts = [(name, float(x), float(y)) for name, x, y, *_ in points]
        for (name, x, y), (left, shift) in zip(texts, _label_shifts(axes, texts), strict=True):
            axes.annotate(
                mathless(name),
                (x, y),
                xytext=(-_GAP if left else _GAP, shift),
                textcoords="offset points",
                fontsize=_LABEL,
                va="center",
                ha="right" if left else "left",
            )

    return draw


# In points of 1/72 inch: a point's name, the gap in front of it, and what a dot takes of a line.
_LABEL, _GAP, _DOT = 6.5, 7.0, 5.0


def _label_shifts(
    axes: Axes, texts: Sequence[tuple[str, float, float]]
) -> list[tuple[bool, float]]:
    """Whether each label stands to the left, and how far it moves, so that none covers another.

    Args:
        texts: name, x and y of each point.

    Returns:
        Left of its point, where it would leave the axes on the right; points of 1/72 inch upwards.
    """
    dots = 72 / axes.figure.dpi
    edge = dots * axes.bbox.x1
    shifts = [(False, 0.0)] * len(texts)
    spots = [dots * axes.transData.transform((x, y)) for _, x, y in texts]
    placed = [(float(x) - _DOT, float(x) + _DOT, float(y)) for x, y in spots]
    for at in sorted(range(len(texts)), key=lambda i: -spots[i][1]):
        left, middle = spots[at]
        width = 0.55 * _LABEL * len(texts[at][0]) + 3
        turned = bool(left + _GAP + width > edge)
        left += -_GAP - width if turned else _GAP
        while any(
            left < other_right and left + width > other_left and abs(middle - other) < 1.15 * _LABEL
            for other_left, other_right, other in placed
        ):
            middle -= 1.0
        placed.append((left, left + width, middle))
        shifts[at] = turned, float(middle - spots[at][1])
    return shifts
