"""The page of `qdeploy eval`."""

from __future__ import annotations

from collections.abc import Sequence

from qdeploy.figures import (
    accuracy,
    factor,
    milliseconds,
    part,
    percent_cell,
    points,
    row_tokens,
    speed,
)
from qdeploy.names import eight_bits, short_name
from qdeploy.report.figure import Figure
from qdeploy.report.figures import (
    figures_of,
    load,
    measured,
    percentiles,
    runs,
    server_traffic,
)
from qdeploy.report.page import Card, Column, Page, Picture, Row, Section, Table
from qdeploy.report.pictures import as_svg, intervals
from qdeploy.report.quality_figures import drawn_drops, quality_headline
from qdeploy.schemas.certificate import Int8
from qdeploy.schemas.evaluation import Baseline, Evaluation, Latency, Traffic, TrafficSpeed


def page(report: Evaluation) -> Page:
    """The evaluation as a page."""
    figures = figures_of(report)
    return Page(
        title=f"{report['engine']}: {measured(report)}, latency and "
        f"{eight_bits(report['strategy'])} kernels",
        kicker=f"{report['engine']}: {report['strategy']}, scope {report['scope']}, "
        f"{report['target']}, rest in {report['rest_precision']}",
        headline=headline(report),
        cards=tuple(_card(figure) for figure in figures if figure.headline),
        warnings=tuple(report["warnings"]),
        sections=tuple(_sections(report, figures)),
        footer=", ".join(f"{name} {version}" for name, version in report["versions"].items()),
    )


def headline(report: Evaluation) -> str:
    """The result in one sentence."""
    parts = []
    metrics, base, latency = report["metrics"], report["baseline"], report["latency_ms"]
    if (clause := quality_headline(report)) is not None:
        parts.append(clause)
    elif metrics:
        text = f"{accuracy(metrics['accuracy'])} % of {metrics['n']} rows right"
        if base and "drop" in base:
            verb = "lost" if base["drop"] >= 0 else "gained"
            lost = points(abs(base["drop"]), signed=False)
            text += f", {lost} points {verb} against {base['strategy']}"
        parts.append(text)
    elif base and "agreement" in base:
        parts.append(f"{accuracy(base['agreement'])} % of the answers are {base['strategy']}'s")
    faster = server_traffic(report["traffic"])["speedup"] if report["traffic"] else None
    faster = faster or report["speedup"]
    if faster:
        times = f"{factor(faster['ratio'])} ×"
        parts.append(f"{times} its speed" if parts else times)
    elif latency:
        parts.append(f"{milliseconds(latency['p50'])} ms a batch")
    check = report["int8"]
    if check and check["planned"]:
        ran = f"{check['executed']} of {check['planned']}"
        parts.append(f"{ran} planned GEMMs ran in {eight_bits(report['strategy'])}")
    else:
        parts.append(int8_text(report))
    return "; ".join(parts) + "."


def int8_text(report: Evaluation) -> str:
    """Whether INT8 or FP8 kernels ran, in a clause."""
    check = report["int8"]
    return check["summary"] if check else f"{eight_bits(report['strategy'])} was not looked at"


def _card(figure: Figure) -> Card:
    label = f"{figure.name}; {figure.detail}" if figure.detail else figure.name
    return Card(figure.headline, label, figure.mood)


def _sections(report: Evaluation, figures: list[Figure]) -> list[Section]:
    sections = [_figures(report, figures)]
    if report["traffic"]:
        sections.append(_traffic(report["traffic"], report["baseline"]))
    if report["latency_ms"] is not None:
        sections.append(_latency(report, report["latency_ms"]))
    if report["int8"] and report["int8"].get("gemms"):
        sections.append(_certificate(report["int8"], report["strategy"]))
    return [*sections, _protocol(report)]


def _figures(report: Evaluation, figures: list[Figure]) -> Section:
    """All of them; what two engines are compared by is drawn with its intervals."""
    columns = (Column("figure", text=True), Column("value", text=True), Column("", text=True))
    rows = tuple(Row((one.name, one.value, one.detail), one.mood) for one in figures)
    metrics, base = report["metrics"], report["baseline"]
    pictures: tuple[Picture, ...] = ()
    if drops := drawn_drops(report):
        alt = "Drop against the baseline, points, with 95 % intervals"
        caption = "By paired bootstrap of the rows. Above 0 the engine is worse."
        height = 1.2 + 0.2 * len(drops)
        draw = intervals(drops, alt)
        pictures = (as_svg(draw, alt, height=height, narrow=height + 0.2, caption=caption),)
    elif metrics and base and "accuracy" in base:
        points = [
            _interval("engine", metrics["accuracy"], metrics["ci95"]),
            _interval(f"baseline ({base['strategy']})", base["accuracy"], base["ci95"]),
        ]
        alt = "Accuracy, %, with 95 % intervals"
        caption = (
            "Both engines answered the same rows: McNemar's p tells a difference of the two where "
            "these intervals (Wilson) overlap."
        )
        draw = intervals(points, alt)
        pictures = (as_svg(draw, alt, height=1.6, narrow=1.8, caption=caption),)
    return Section("Figures", pictures=pictures, table=Table(columns, rows))


def _interval(name: str, share: float, ci95: list[float]) -> tuple[str, float, float, float]:
    return name, 100 * share, 100 * ci95[0], 100 * ci95[1]


_LAUNCHES = {True: "as one CUDA graph", False: "kernel by kernel, without a CUDA graph"}


def _latency(report: Evaluation, latency: Latency) -> Section:
    base, protocol = report["baseline"], report["protocol"]
    lines: list[tuple[str, Latency | None]] = [
        ("engine", latency),
        ("engine, on the device", report["device_ms"]),
    ]
    if base is not None:
        name = f"baseline ({base['strategy']})"
        lines += [
            (name, base.get("latency_ms")),
            (f"{name}, on the device", base.get("device_ms")),
        ]
    rows = tuple(
        Row((name, *(digits for _, digits in percentiles(found))))
        for name, found in lines
        if found is not None
    )
    columns = (Column("ms", text=True), *(Column(name) for name, _ in percentiles(latency)))
    note = (
        f"{protocol['batch_size']} rows of {protocol['seq_len']} tokens, {runs(protocol)}, "
        f"{protocol['threads']} threads; rounds of the engines "
        "alternate; " + int8_text(report) + "."
    )
    if report["cuda_graph"] is not None:
        note += f" Runs are launched {_LAUNCHES[report['cuda_graph']]}."
    return Section("Latency", table=Table(columns, rows), note=note)


def _traffic(sections: Sequence[Traffic], base: Baseline | None) -> Section:
    """Batches of the data's rows at their own lengths."""
    theirs = base.get("traffic", []) if base is not None else []
    rows: list[Row] = []
    for at, own in enumerate(sections):
        padding = part(own["padding"])
        rows.append(_traffic_row(load(own), padding, own))
        if base is not None and at < len(theirs):
            rows.append(_traffic_row(f"… baseline ({base['strategy']})", "", theirs[at]))
    names = ("padding", "p50", "p95", "rows a second")
    columns = (Column("ms", text=True), *map(Column, names))
    tokens = server_traffic(sections)["tokens"]
    note = (
        "Rows as they come, padded to the longest of each batch, and offline: sorted by length; "
        f"tokens of a row: {row_tokens({'median': tokens['median'], 'p95': tokens['p95']})}."
    )
    return Section("Traffic", table=Table(columns, tuple(rows)), note=note)


def _traffic_row(name: str, padding: str, found: TrafficSpeed) -> Row:
    times = found["latency_ms"]
    p50, p95 = milliseconds(times["p50"]), milliseconds(times["p95"])
    return Row((name, padding, p50, p95, speed(found["rows_per_s"])))


def _certificate(check: Int8, strategy: str) -> Section:
    rows = []
    for name, gemm in check["gemms"].items():
        failed = gemm["planned"] != "float" and gemm["reason"]
        rows.append(
            Row(
                (
                    short_name(name).replace(" ", "\N{NO-BREAK SPACE}"),
                    gemm["planned"],
                    gemm["kernel"],
                    percent_cell(gemm["flops_share"]),
                    percent_cell(gemm["time_share"]),
                    gemm["reason"],
                ),
                "bad" if failed else "",
            )
        )
    columns = tuple(
        Column(name, text="%" not in name)
        for name in ("GEMM", "planned", "kernel", "FLOPs %", "time %", "reason")
    )
    return Section(
        f"{eight_bits(strategy)} certificate",
        table=Table(columns, tuple(rows)),
        note="Read from the graph that the runtime executes, and from its profile. L0 is the "
        "first layer.",
    )


def _protocol(report: Evaluation) -> Section:
    protocol = {key: value for key, value in report["protocol"].items() if value is not None}
    rows = [Row((str(key), str(value))) for key, value in protocol.items()]
    plain = {k: v for k, v in report["data"].items() if v is not None and not isinstance(v, dict)}
    rows += [Row((f"data, {key}", str(value))) for key, value in plain.items()]
    rows.append(Row(("task", str(report["task"]))))
    table = Table((Column("setting", text=True), Column("value")), tuple(rows))
    return Section("Protocol", table=table)
