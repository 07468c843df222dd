"""The result of `eval` as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qdeploy.cli import tables
from qdeploy.figures import speed

if TYPE_CHECKING:
    from rich.text import Text


def table(report: Mapping[str, Any]) -> None:
    """The result of `eval`, with the INT8 check beside the latency."""
    from rich.table import Table  # here and below: `qdeploy --version` need not wait for rich

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")  # a path is shown to its end
    for name, value in _evaluation_rows(report):
        table.add_row(name, value)
    tables.show(table)


def _evaluation_rows(report: Mapping[str, Any]) -> list[tuple[str, str | Text]]:
    rows: list[tuple[str, str | Text]] = [("engine", f"{report.get('engine')} ({_what(report)})")]
    if report.get("auto"):
        rows.append(("target", tables.choice(report["auto"])))
    if data := report.get("data"):
        rows.append(("data", _data(data)))
        if data.get("lengths"):
            rows.append(("tokens of a row", tables.lengths(data)))
    if reason := report.get("no_accuracy"):
        rows.append(("accuracy", f"not measured: {reason}"))
    if metrics := report.get("metrics"):
        rows.append(("accuracy", _accuracy(metrics)))
        if metrics.get("constant_predictor"):
            rows.append(("", _alarm("CONSTANT PREDICTOR", "the engine answers one class only")))
    if (labels := report.get("labels")) and labels.get("swapped"):
        better = f"{100 * labels['accuracy_if_swapped']:.2f} % with the classes in another order"
        rows.append(("", _alarm("CLASS ORDER", better)))
    if base := report.get("baseline"):
        rows += _baseline_rows(base)
    if latency := report.get("latency_ms"):
        figures = ", ".join(f"{key} {value:.2f}" for key, value in latency.items())
        rows += [("latency, ms", figures), ("", tables.int8(report.get("int8")))]
        if device := report.get("device_ms"):
            how = "one CUDA graph" if report.get("cuda_graph") else "no CUDA graph"
            rows.append(("on the device, ms", f"p50 {device['p50']:.3f}, {how}"))
        if protocol := report.get("protocol"):
            rows.append(("", _protocol(protocol)))
    if own := report.get("own_lengths"):
        rows += _own_lengths(own)
    rows += _speedups(report)
    if neighbours := report.get("neighbours"):
        rows.append(("in a batch", neighbours["summary"]))
    if other := (report.get("baseline") or {}).get("neighbours"):
        rows.append(("", f"Baseline: {other['summary'][0].lower()}{other['summary'][1:]}"))
    rows += [(key.replace("_mb", ", MB"), _figures(report[key]))
             for key in ("size_mb", "memory_mb") if report.get(key)]  # fmt: skip
    return rows


def _data(data: Mapping[str, Any]) -> str:
    """The rows, and how they were found: `reviews.csv, 872 rows (text, label: …)`."""
    text = f"{data['source']}, {data['n']} rows"
    if data.get("left_out"):
        text += f" without the {data['left_out']} that calibrated it"
    if data.get("stands_in"):
        text += " (they stand in for rows of your own)"
    if data.get("how"):
        names = ", ".join(name for name in data["columns"].values() if name is not None)
        text += f" ({names}: {data['how']})"
    return text


def _alarm(word: str, text: str) -> Text:
    from rich.text import Text

    return Text.assemble((word, "bold red"), f": {text}")


def _what(report: Mapping[str, Any]) -> str:
    rest = report.get("rest_precision", "f32")
    parts = [report.get("strategy"), report.get("target"), *([] if rest == "f32" else [rest])]
    return ", ".join(str(part) for part in parts)


def _accuracy(metrics: Mapping[str, Any]) -> str:
    low, high = metrics["ci95"]
    return (
        f"{100 * metrics['accuracy']:.2f} % of {metrics['n']} rows "
        f"(95 %: {100 * low:.2f} to {100 * high:.2f})"
    )


def _baseline_rows(base: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if "drop" in base:
        rows.append(("drop", f"{100 * base['drop']:+.2f} points (p = {base['mcnemar_p']:.3g})"))
    if "agreement" in base:
        flipped = f", {base['flipped']} rows flipped" if "flipped" in base else ""
        rows.append(("agreement", f"{100 * base['agreement']:.2f} %{flipped}"))
    if base.get("equal_logits"):
        rows.append(("logits", "equal to the baseline's"))
    elif "max_abs_diff" in base:
        level = "" if base.get("sqnr_db") is None else f"SQNR {base['sqnr_db']:.1f} dB, "
        rows.append(("logits", f"{level}largest difference {base['max_abs_diff']:.3g}"))
    return rows


def _protocol(protocol: Mapping[str, Any]) -> str:
    shape = f"{protocol['batch_size']} rows of {protocol['seq_len']} tokens"
    return f"{shape}, {runs(protocol)}, {protocol['threads']} threads"


def runs(found: Mapping[str, Any]) -> str:
    """`100 + 154 runs in 14.9 s`, and whether the time ended them."""
    text = f"{found['warmup']} + {found['iterations']} runs in {found['seconds']:.1f} s"
    return f"{text} (ended by --seconds)" if found["ended_by_time"] else text


def _own_lengths(own: Mapping[str, Any]) -> list[tuple[str, str | Text]]:
    latency, tokens = own["latency_ms"], own["tokens"]
    figures = ", ".join(f"{key} {value:.2f}" for key, value in latency.items())
    lengths = f"median {tokens['median']:g}, 95 % up to {tokens['p95']:g} tokens"
    return [
        ("own lengths, ms", f"{figures}; {speed(own['rows_per_s'])} rows a second"),
        ("", f"{own['batch_size']} rows as they come ({lengths}), {runs(own)}"),
    ]


def _speedups(report: Mapping[str, Any]) -> list[tuple[str, str | Text]]:
    """The ratio at the fixed shape, and that at the data's own lengths beside it."""
    found = []
    own = report.get("own_lengths") or {}
    protocol = report.get("protocol") or {}
    shape = f"at {protocol.get('batch_size')} × {protocol.get('seq_len')}" if own else ""
    for speedup, where in ((report.get("speedup"), shape), (own.get("speedup"), "at own lengths")):
        if speedup:
            low, high = speedup["ci95"]
            found.append(f"{speedup['ratio']:.2f} × ({low:.2f} to {high:.2f}) {where}".rstrip())
    return [("against baseline" if at == 0 else "", text) for at, text in enumerate(found)]


def _figures(values: Any) -> str:
    if not isinstance(values, Mapping):
        return str(values)
    return ", ".join(
        f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
    )
