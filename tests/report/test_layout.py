"""Pages at the widths of a telephone and a desk, measured in a real browser."""

from __future__ import annotations

import html
import json
import re
from functools import cache
from typing import Any

import pytest

from qdeploy.report import analysis as analysis_report
from qdeploy.report import evaluation as evaluation_report
from qdeploy.report import sweep as sweep_report
from qdeploy.report.page import Card, Column, Page, Row, Section, Table, card_columns, render
from tests.report.reports import analysis, deep_evaluation, swept
from tests.report.test_browser import browse, needs_browser

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

WIDTHS = {"phone": 390, "desk": 1280}
PAGES = ("evaluation", "analysis", "sweep")
# Pages in frames of widths that no window of the browser need have, and what is measured there.
FRAME = '<iframe width="{width}" height="900" srcdoc="{page}"></iframe>'
MEASURE = """<pre id="found"></pre><script>
function measure(d) {
  const seen = (e) => e.getClientRects().length > 0;
  const all = (q) => [...d.querySelectorAll(q)].filter(seen);
  const out = (e) => e.scrollWidth > e.clientWidth + 1;
  const lines = (e) => { const r = d.createRange(); r.selectNodeContents(e);
    return new Set([...r.getClientRects()].map((x) => Math.round(x.top))).size; };
  const cut = (t) => { const a = t.getBoundingClientRect(),
    b = t.ownerSVGElement.getBoundingClientRect();
    return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1
      || a.bottom > b.bottom + 1; };
  const rows = {};
  for (const card of all(".card")) { const top = Math.round(card.getBoundingClientRect().top);
    rows[top] = (rows[top] || 0) + 1; }
  return {
    width: d.documentElement.clientWidth, scroll: d.documentElement.scrollWidth,
    overflowing: all("h1, h2, p, li, figure, figcaption, .card, footer, section").filter(out)
      .map((e) => e.tagName + " " + e.textContent.slice(0, 60)),
    svgs: all("svg").map((e) => e.getBoundingClientRect().right),
    cut: all("svg text").filter(cut).map((t) => t.textContent),
    small: Math.min(...all("svg text").map((t) => t.getBoundingClientRect().height)),
    broken: all("td.name").filter((e) => lines(e) > 1).map((e) => e.textContent),
    cards: Object.keys(rows).map(Number).sort((a, b) => a - b).map((top) => rows[top]),
  };
}
window.onload = () => {
  const found = [...document.querySelectorAll("iframe")].map((f) => measure(f.contentDocument));
  document.getElementById("found").textContent = JSON.stringify(found);
};
</script>"""
BAD = (
    "<h1 style='white-space: nowrap'>" + "x " * 400 + "</h1><table style='width: 1rem'><tr>"
    "<td class=name style='width: 1rem'>two words</td></tr></table>"
    "<svg width=800 height=20><text x=790 y=9>out of it</text></svg>"
)


@cache
def page(name: str) -> str:
    pages = {
        "evaluation": lambda: evaluation_report.page(deep_evaluation()),
        "analysis": lambda: analysis_report.page(analysis()),
        "sweep": lambda: sweep_report.page(swept()),
    }
    return render(pages[name]())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Any]:
    """What one browser finds of every page at every width, and of a page that does not fit."""
    cases = [(name, width) for name in PAGES for width in WIDTHS.values()] + [("bad", 390)]
    frames = [
        FRAME.format(width=width, page=html.escape(BAD if name == "bad" else page(name)))
        for name, width in cases
    ]
    path = tmp_path_factory.mktemp("frames") / "frames.html"
    path.write_text("<!doctype html>" + "".join(frames) + MEASURE, "utf-8")
    done = browse(path, "--dump-dom", "--virtual-time-budget=5000", "--window-size=1400,1000")
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None and found[1], done.stderr[-500:]
    return dict(zip(cases, json.loads(html.unescape(found[1])), strict=True))


@needs_browser
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_its_window(
    name: str, width: int, measured: dict[tuple[str, int], Any]
) -> None:
    found = measured[name, width]
    assert width - 20 <= found["width"] <= width  # without the bar of a scroll
    assert found["scroll"] <= found["width"]
    assert found["overflowing"] == []
    assert found["svgs"] and max(found["svgs"]) <= found["width"]
    assert found["cut"] == []
    assert found["small"] >= 7  # pixels: lines that can still be read
    assert found["broken"] == []
    assert len(found["cards"]) == 1 or found["cards"][-1] > 1  # none alone in the last row


@needs_browser
def test_a_page_that_does_not_fit_would_be_seen(measured: dict[tuple[str, int], Any]) -> None:
    found = measured["bad", 390]
    assert found["scroll"] > 390 and found["overflowing"] and found["broken"] == ["two words"]
    assert found["cut"] == ["out of it"] and max(found["svgs"]) > 390


@pytest.mark.parametrize("count", range(1, 16))
def test_no_card_is_alone_in_the_last_row(count: int) -> None:
    columns = card_columns(count)
    assert 1 <= columns <= 5
    assert count <= columns or count % columns != 1


def test_columns_without_text_are_not_drawn() -> None:
    table = Table(
        (Column("name", text=True), Column("nothing"), Column("value")),
        (Row(("a", "", "1")), Row(("b", "", ""))),
    )
    text = render(Page("t", "k", "h", (Section("s", table=table),)))
    assert "nothing" not in text and text.count("<th") - text.count("<thead") == 2
    assert table.shown == (0, 2)
    assert Table(table.columns, ()).shown == (0, 1, 2)


@pytest.mark.parametrize("name", PAGES)
def test_a_caption_is_not_the_title_of_its_picture(name: str) -> None:
    text = page(name)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert all(captions) and (captions or name == "sweep")
    for alt in re.findall(r'aria-label="(.*?)"', text):
        assert alt not in captions


def test_ids_of_drawings_do_not_meet() -> None:
    """Two drawings of one page with equal ids would take each other's clip paths."""
    for name in PAGES:
        ids = re.findall(r'<clipPath id="(.*?)"', page(name))
        assert ids and len(set(ids)) == len(ids)


def test_axes_of_percentages_end_at_100() -> None:
    from matplotlib.figure import Figure

    from qdeploy.report.pictures import intervals, scatter

    figure = Figure(figsize=(9, 2))
    intervals([("a", 99.5, 98.0, 100.0), ("b", 99.0, 97.0, 99.9)], "title")(figure)
    assert figure.axes[0].get_xlim()[1] == 100
    figure = Figure(figsize=(9, 4))
    scatter([("a", 1.0, 100.0, 9.0, True), ("b", 2.0, 90.0, 3.0, False)], "x", "y", "t")(figure)
    assert figure.axes[0].get_ylim()[1] == 100


def test_three_figures_of_int8_stand_apart_and_one_target_in_the_heading() -> None:
    text = page("sweep")
    assert '<td class="figure name">99.99</td><td class="figure name">8/9</td>' in text
    assert '<td class="figure name">90.00</td>' in text
    assert "bert-base-qnli on ort-cpu: 5463 rows" in text and ">target</th>" not in text
    several = swept()
    several["trials"][1]["target"] = "openvino"
    assert ">target</th>" in render(sweep_report.page(several))


def test_many_cards_are_given_columns() -> None:
    text = render(Page("t", "k", "h", (), tuple(Card(str(n), "x") for n in range(7))))
    assert '<div class="cards odd" style="--columns: 4">' in text
