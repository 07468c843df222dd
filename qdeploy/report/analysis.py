"""The page and the pictures of `qdeploy analyze`."""

from __future__ import annotations

from collections.abc import Callable

from qdeploy.figures import counted, decibels, expected, kurtosis
from qdeploy.figures import gain as figure_of_gain
from qdeploy.names import short_name
from qdeploy.report.analysis_pictures import NARROW, caption_of, pictures
from qdeploy.report.page import Card, Column, Page, Row, Section, Table
from qdeploy.report.pictures import as_svg
from qdeploy.schemas.analysis import Analysis, AnalyzedSite, Cost, MeasuredPlan, RecurringChannel

_COLUMNS = (
    Column("site", text=True),
    Column("kind", text=True),
    Column("layer"),
    Column("variance"),
    Column("kurtosis"),
    Column("energy in top 1 % channels"),
    Column("energy in top 1 % elements"),
    Column("max / median channel"),
    Column("outlier channels", text=True),
    Column("alone, dB"),
    Column("answers changed"),
    Column("gain in float, dB"),
    Column("peg", text=True),
)


def page(report: Analysis) -> Page:
    """The analysis as a page."""
    data = report["data"]
    return Page(
        title=f"Outliers of {report['model']}",
        kicker=f"{report['model']}: {data['rows']} rows of {data['source']}, "
        f"scope {report['scope']}, {report['activations']} 8-bit activations",
        headline=headline(report),
        cards=_cards(report),
        sections=tuple(_sections(report)),
        footer=", ".join(f"{name} {version}" for name, version in report["versions"].items()),
    )


def headline(report: Analysis) -> str:
    """What is wrong with the model, in one sentence."""
    if not report["recommendations"]:
        return _nothing_lost(report)
    whole = report["w8a8_db"]
    start = "Outliers were found"
    if whole is not None:
        start = f"One scale per tensor leaves {decibels(whole)} dB of the logits"
    sites = sum(len(entry["sites"]) for entry in report["recommendations"])
    return f"{start}; {sites} of {len(report['sites'])} sites ask for treatment."


def _nothing_lost(report: Analysis) -> str:
    """That no site asks for treatment, and how much so few rows can see."""
    if not report["cost_rows"]:
        return "No site asks for treatment by its range; no cost was measured."
    rows, answers = report["cost_rows"], report["answers"]
    text = f"On {counted(rows, 'row')} no site asks for treatment: one scale per tensor will do."
    if not answers:
        return text
    seen = f"{100 / answers:.2g} points"
    return f"{text} A drop below {seen} (1 of {answers} answers) does not show on so few."


def _cards(report: Analysis) -> tuple[Card, ...]:
    sites = report["sites"]
    peak = max(sites, key=lambda site: site["kurtosis"])
    wide = max(sites, key=lambda site: site["max_over_median_channel"] or 0)
    cards = []
    if report["w8a8_db"] is not None:
        mood = "bad" if report["w8a8_db"] < 20 else ""
        cards.append(
            Card(f"{decibels(report['w8a8_db'])} dB", "logit SQNR, every site with one scale", mood)
        )
    cards.append(Card(kurtosis(peak["kurtosis"]), f"largest kurtosis: {_breakable(peak['name'])}"))
    cards.append(
        Card(
            f"{wide['max_over_median_channel'] or 0:.0f} ×",
            f"widest channel over the median one: {_breakable(wide['name'])}",
        )
    )
    if report["recurring"]:
        channels = ", ".join(str(entry["channel"]) for entry in report["recurring"][:4])
        cards.append(Card(channels, "channels that recur across depths"))
    return tuple(cards)


def _breakable(name: str) -> str:
    """A short name that a narrow card may break behind its dots."""
    return short_name(name).replace(".", ".\N{ZERO WIDTH SPACE}")


def _sections(report: Analysis) -> list[Section]:
    advice = tuple(entry["text"] for entry in report["recommendations"])
    drawn = {
        name: as_svg(draw, alt, narrow=NARROW, caption=caption_of(name))
        for name, (draw, alt) in pictures(report).items()
    }
    sections = [
        Section(
            "What to do",
            items=advice or ("Nothing: `--strategy w8a8` will do.",),
            note="dB: signal to noise ratio of the logits when this site alone is rounded, with "
            "one scale and then with K groups of channels, measured; K is the least that leaves "
            "30 dB.",
        ),
        _plans(report),
    ]
    if drawn:
        sections.append(Section("Pictures", pictures=tuple(drawn.values())))
    if report["recurring"]:
        sections.append(_recurring(report["recurring"]))
    if carried := [site for site in report["sites"] if site["carriers"]]:
        sections.append(_carriers(carried))
    sections.append(_sites(report))
    return sections


def _plans(report: Analysis) -> Section:
    """Whole plans, and the build that follows from them."""
    rows = tuple(
        Row(
            (
                plan["strategy"],
                plan["scope"],
                str(plan["sites"]),
                ", ".join(plan["float_sites"]),
                decibels(plan["sqnr_db"]),
                _changed(plan),
            ),
            "good" if at == report["build"]["plan"] else "",
        )
        for at, plan in enumerate(report["plans"])
    )
    columns = (
        Column("strategy", text=True),
        Column("scope", text=True),
        Column("sites in 8 bits"),
        Column("in float", text=True),
        Column("logit SQNR, dB"),
        Column(f"of {report['answers']} answers changed" if report["answers"] else "changed"),
    )
    items = (report["build"]["reason"], report["build"]["command"])
    note = "Activations alone are rounded; int8 weights add about 30 dB of noise of their own."
    table = Table(columns, rows) if rows else None
    return Section("What to build", items=items, table=table, note=note if rows else "")


def _recurring(entries: list[RecurringChannel]) -> Section:
    rows = tuple(
        Row((str(e["channel"]), str(e["sites"]), ", ".join(map(str, e["depths"]))))
        for e in entries[:20]
    )
    columns = (Column("channel"), Column("sites"), Column("depths", text=True))
    note = "Outlier channels of the residual stream; depth 0 is the embeddings."
    return Section("Channels that recur", table=Table(columns, rows), note=note)


def _carriers(sites: list[AnalyzedSite]) -> Section:
    names = list(dict.fromkeys(name for site in sites for name in site["carriers"] or ()))
    rows = []
    for site in sorted(sites, key=lambda s: -s["outlier_energy"])[:20]:
        found = site["carriers"] or {}
        cells = [
            f"{_percent(found[name]['energy'])} ({_percent(found[name]['tokens'])})"
            if name in found
            else ""
            for name in names
        ]
        rows.append(Row((site["name"], *cells)))
    columns = (Column("site", text=True), *(Column(name) for name in names))
    note = (
        "Share of the outlier channels' energy on each class of token, and in brackets the share "
        "of the tokens. Padding is left out."
    )
    return Section("Tokens that carry them", table=Table(columns, tuple(rows)), note=note)


def _sites(report: Analysis) -> Section:
    rows, measured = [], bool(report["cost_rows"])
    for site in report["sites"]:
        cost = site["cost"]
        gain = None if cost is None else cost["gain_db"]
        named = ", ".join(map(str, site["outlier_channels"][:6]))
        more = site["outlier_channel_count"] - 6
        rows.append(
            Row(
                (
                    site["name"],
                    site["kind"],
                    "" if site["layer"] is None else str(site["layer"]),
                    f"{site['variance']:.3g}",
                    kurtosis(site["kurtosis"]),
                    _optional(site["energy_top_1pct_channels"], _percent),
                    _percent(site["energy_top_1pct_elements"]),
                    _optional(site["max_over_median_channel"], "{:.1f}".format),
                    named + (f" and {more} more" if more > 0 else ""),
                    _alone(site, measured=measured),
                    _changed(cost),
                    _optional(gain, figure_of_gain),
                    site["treatment"]["text"],
                ),
                "bad" if (gain or 0) >= 1 else "",
            )
        )
    note = "Kurtosis of all elements of a site (a normal distribution has 3)."
    if left := report["left_out"]["costs"]:
        note += f" {len(left)} sites were not measured within {report['seconds']:g} seconds."
    return Section("Every site", table=Table(_COLUMNS, tuple(rows)), note=note)


def _alone(site: AnalyzedSite, *, measured: bool) -> str:
    if site["cost"] is None:
        return "not measured" if measured else ""
    return decibels(site["cost"]["alone_db"])


def _changed(cost: Cost | MeasuredPlan | None) -> str:
    """Answers that change with the site alone in 8 bits: counted, and expected."""
    if cost is None or cost["flipped"] is None:
        return ""
    return f"{cost['flipped']} ({expected(cost['flip_percent'] or 0.0)})"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _optional(value: float | None, form: Callable[[float], str]) -> str:
    return "" if value is None else form(value)
