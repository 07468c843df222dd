"""The page of `qdeploy eval`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdeploy.figures import speed
from qdeploy.names import short_name
from qdeploy.report.page import Card, Column, Page, Picture, Row, Section, Table
from qdeploy.report.pictures import as_svg, intervals

_SIGNIFICANT = 0.05


def page(report: Mapping[str, Any]) -> Page:
    """The evaluation as a page."""
    return Page(
        title=f"{report['engine']}: accuracy, latency and INT8 kernels",
        kicker=f"{report['engine']}: {report['strategy']}, scope {report['scope']}, "
        f"{report['target']}, rest in {report['rest_precision']}",
        headline=headline(report),
        cards=_cards(report),
        warnings=tuple(report["warnings"]),
        sections=tuple(_sections(report)),
        footer=", ".join(f"{name} {version}" for name, version in report["versions"].items()),
    )


def headline(report: Mapping[str, Any]) -> str:
    """The result in one sentence."""
    parts = []
    metrics, base, speed = report["metrics"], report["baseline"], report["speedup"]
    if metrics:
        text = f"{100 * metrics['accuracy']:.2f} % of {metrics['n']} rows right"
        if base and "drop" in base:
            points = 100 * base["drop"]
            verb = "lost" if points >= 0 else "gained"
            text += f", {abs(points):.2f} points {verb} against {base['strategy']}"
        parts.append(text)
    elif base and "agreement" in base:
        parts.append(f"{100 * base['agreement']:.2f} % of the answers are {base['strategy']}'s")
    if speed:
        parts.append(f"{speed['ratio']:.2f} × its speed" if parts else f"{speed['ratio']:.2f} ×")
    elif report["latency_ms"]:
        parts.append(f"{report['latency_ms']['p50']:.1f} ms a batch")
    check = report["int8"]
    if check and check["planned"]:
        ran = f"{check['executed']} of {check['planned']}"
        parts.append(f"{ran} planned GEMMs ran in INT8")
    else:
        parts.append(int8_text(check))
    return "; ".join(parts) + "."


def int8_text(check: Mapping[str, Any] | None) -> str:
    """Whether INT8 kernels ran, in a clause."""
    return str(check["summary"]) if check else "INT8 was not looked at"


def _cards(report: Mapping[str, Any]) -> tuple[Card, ...]:
    cards = []
    if metrics := report["metrics"]:
        low, high = metrics["ci95"]
        mood = "bad" if metrics["constant_predictor"] else ""
        label = f"accuracy; 95 %: {100 * low:.2f} to {100 * high:.2f}"
        cards.append(Card(f"{100 * metrics['accuracy']:.2f} %", label, mood))
    base = report["baseline"]
    if base and "drop" in base:
        worse = base["drop"] > 0 and base["mcnemar_p"] < _SIGNIFICANT
        label = f"points lost; McNemar p = {base['mcnemar_p']:.2g}, {base['flipped']} rows flipped"
        cards.append(Card(f"{100 * base['drop']:+.2f}", label, "bad" if worse else ""))
    elif base and "agreement" in base:
        label = f"agreement with {base['strategy']}; {base['flipped']} rows flipped"
        cards.append(Card(f"{100 * base['agreement']:.2f} %", label))
    elif base and "max_abs_diff" in base:
        label = f"largest difference from {base['strategy']}'s outputs"
        cards.append(Card(f"{base['max_abs_diff']:.3g}", label))
    if speed := report["speedup"]:
        low, high = speed["ci95"]
        mood = "good" if low > 1 else "bad" if high < 1 else ""
        label = f"the baseline's speed; 95 %: {low:.2f} to {high:.2f}"
        cards.append(Card(f"{speed['ratio']:.2f} ×", label, mood))
    own = report.get("own_lengths") or {}
    if speed := own.get("speedup"):
        low, high = speed["ci95"]
        label = f"its speed at the data's own lengths; 95 %: {low:.2f} to {high:.2f}"
        mood = "good" if low > 1 else "bad" if high < 1 else ""
        cards.append(Card(f"{speed['ratio']:.2f} ×", label, mood))
    if latency := report["latency_ms"]:
        shape = report["protocol"]
        label = f"median of a batch of {shape['batch_size']} × {shape['seq_len']}"
        cards.append(Card(f"{latency['p50']:.1f} ms", label))
    cards.append(Card(f"{report['size_mb']['total']:.1f} MB", "on disk"))
    data = report["data"] or {}
    if data.get("truncated"):
        label = f"of the rows cut at {data['max_length']} tokens"
        cards.append(Card(f"{100 * data['truncated_share']:.1f} %", label, "bad"))
    check = report["int8"]
    if check and check["planned"]:
        whole = check["executed"] == check["planned"]
        text = f"{check['executed']}/{check['planned']}"
        cards.append(Card(text, "planned GEMMs in INT8", "good" if whole else "bad"))
    return tuple(cards)


def _sections(report: Mapping[str, Any]) -> list[Section]:
    sections = [_figures(report)]
    if report["latency_ms"]:
        sections.append(_latency(report))
    if report.get("own_lengths"):
        sections.append(_own_lengths(report))
    if report["int8"] and report["int8"].get("gemms"):
        sections.append(_certificate(report["int8"]))
    return [*sections, _protocol(report)]


def _figures(report: Mapping[str, Any]) -> Section:
    """Accuracy with its interval, drawn where there are two engines."""
    metrics, base = report["metrics"], report["baseline"]
    rows = []
    if metrics:
        low, high = metrics["ci95"]
        rows.append(("accuracy, %", f"{100 * metrics['accuracy']:.2f}"))
        rows.append(("95 % interval (Wilson)", f"{100 * low:.2f} to {100 * high:.2f}"))
        rows.append(("rows", str(metrics["n"])))
    if base and "drop" in base:
        rows += [
            ("accuracy of the baseline, %", f"{100 * base['accuracy']:.2f}"),
            ("drop, points", f"{100 * base['drop']:+.2f}"),
            ("McNemar p, exact", f"{base['mcnemar_p']:.3g}"),
        ]
    rows += _differences(base or {}) + _lengths(report["data"] or {})
    rows += [(f"size, {key}, MB", f"{value:.2f}") for key, value in report["size_mb"].items()]
    for key, value in (report["memory_mb"] or {}).items():
        rows.append((f"memory, {key}, MB", f"{value:.1f}"))
    for name, found in (("in a batch", report), ("in a batch, baseline", base or {})):
        if neighbours := found.get("neighbours"):
            rows.append((name, neighbours["summary"]))
    table = Table((Column("figure", text=True), Column("value")), tuple(Row(row) for row in rows))
    pictures: tuple[Picture, ...] = ()
    if metrics and base and "ci95" in base:
        pairs = [("engine", metrics), (f"baseline ({base['strategy']})", base)]
        points = [(name, *(100 * x for x in (m["accuracy"], *m["ci95"]))) for name, m in pairs]
        alt = "Accuracy, %, with 95 % intervals"
        caption = (
            "Both engines answered the same rows: McNemar's p tells a difference of the two where "
            "these intervals overlap."
        )
        draw = intervals(points, alt)
        pictures = (as_svg(draw, alt, height=1.6, narrow=1.8, caption=caption),)
    return Section("Accuracy, size and memory", pictures=pictures, table=table)


def _differences(base: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What an engine's outputs have of the baseline's; no labels are needed for it."""
    rows = []
    if "agreement" in base:
        rows.append(("agreement, %", f"{100 * base['agreement']:.2f}"))
        rows.append(("rows with another answer", str(base["flipped"])))
    if base.get("sqnr_db") is not None:
        rows.append(("logit SQNR, dB", f"{base['sqnr_db']:.1f}"))
    if "max_abs_diff" in base:
        rows.append(("largest difference of a logit", f"{base['max_abs_diff']:.3g}"))
    return rows


def _lengths(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How long the rows of the evaluation and of the calibration are, and how many were cut."""
    rows = []
    for name, found in (("", data), (", calibration", data.get("calibration") or {})):
        if figures := found.get("lengths"):
            value = f"{figures['median']:g}, {figures['p95']:g}, {figures['max']}"
            rows.append((f"tokens of a row{name}: median, 95 %, largest", value))
            share = f"{found['truncated']} ({100 * found['truncated_share']:.1f} %)"
            rows.append((f"rows cut at {found['max_length']} tokens{name}", share))
    return rows


_LAUNCHES = {True: "as one CUDA graph", False: "kernel by kernel, without a CUDA graph"}


def _latency(report: Mapping[str, Any]) -> Section:
    names = list(report["latency_ms"])
    rows = [Row(("engine", *(f"{report['latency_ms'][name]:.2f}" for name in names)))]
    if device := report.get("device_ms"):
        rows.append(Row(("engine, on the device", *(f"{device[name]:.3f}" for name in names))))
    if (base := report["baseline"]) and base.get("latency_ms"):
        cells = (f"{base['latency_ms'][name]:.2f}" for name in names)
        rows.append(Row((f"baseline ({base['strategy']})", *cells)))
        if device := base.get("device_ms"):
            cells = (f"{device[name]:.3f}" for name in names)
            rows.append(Row((f"baseline ({base['strategy']}), on the device", *cells)))
    columns = (Column("ms", text=True), *(Column(name) for name in names))
    shape = report["protocol"]
    note = (
        f"{shape['batch_size']} rows of {shape['seq_len']} tokens, {_runs(shape)}, "
        f"{shape['threads']} threads; rounds of the engines "
        "alternate; " + int8_text(report["int8"]) + "."
    )
    if report.get("cuda_graph") is not None:
        note += f" Runs are launched {_LAUNCHES[report['cuda_graph']]}."
    return Section("Latency", table=Table(columns, tuple(rows)), note=note)


def _own_lengths(report: Mapping[str, Any]) -> Section:
    """Batches of the data's rows as they come."""
    own, base = report["own_lengths"], report["baseline"] or {}
    engines = [("engine", own)]
    if base.get("own_lengths"):
        engines.append((f"baseline ({base['strategy']})", base["own_lengths"]))
    rows = [
        Row(
            (
                name,
                *(f"{found['latency_ms'][key]:.2f}" for key in ("p50", "p95")),
                speed(found["rows_per_s"]),
            )
        )
        for name, found in engines
    ]
    columns = (Column("ms", text=True), *map(Column, ("p50", "p95", "rows a second")))
    tokens = own["tokens"]
    note = (
        f"Batches of {own['batch_size']} rows as they come, padded to the longest in each; a row "
        f"has {tokens['median']:g} tokens (median), 95 % have up to {tokens['p95']:g}; "
        f"{_runs(own)}."
    )
    return Section(
        "Latency at the data's own lengths", table=Table(columns, tuple(rows)), note=note
    )


def _runs(found: Mapping[str, Any]) -> str:
    text = f"{found['warmup']} runs before and {found['iterations']} timed in "
    ended = " (ended by --seconds)" if found["ended_by_time"] else ""
    return f"{text}{found['seconds']:.1f} s{ended}"


def _certificate(check: Mapping[str, Any]) -> Section:
    rows = []
    for name, gemm in check["gemms"].items():
        failed = gemm["planned"] == "int8" and gemm["reason"]
        time = gemm["time_share"]
        rows.append(
            Row(
                (
                    short_name(name).replace(" ", "\N{NO-BREAK SPACE}"),
                    gemm["planned"],
                    gemm["kernel"],
                    f"{100 * gemm['flops_share']:.2f}",
                    "" if time is None else f"{100 * time:.2f}",
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
        "INT8 certificate",
        table=Table(columns, tuple(rows)),
        note="Read from the graph that the runtime executes, and from its profile. L0 is the "
        "first layer.",
    )


def _protocol(report: Mapping[str, Any]) -> Section:
    data = report["data"] or {}
    protocol = {key: value for key, value in report["protocol"].items() if value is not None}
    rows = [Row((str(key), str(value))) for key, value in protocol.items()]
    plain = {k: v for k, v in data.items() if v is not None and not isinstance(v, Mapping)}
    rows += [Row((f"data, {key}", str(value))) for key, value in plain.items()]
    rows.append(Row(("task", str(report["task"]))))
    table = Table((Column("setting", text=True), Column("value")), tuple(rows))
    return Section("Protocol", table=table)
