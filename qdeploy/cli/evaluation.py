"""The result of `eval` as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qdeploy.cli import tables

if TYPE_CHECKING:
    from rich.text import Text


def table(report: Mapping[str, Any]) -> None:
    """The result of `eval`, with the INT8 check beside the latency."""
    from rich.table import Table  # here and below: `qdeploy --version` need not wait for rich

    table = Table(show_header=False, box=None, pad_edge=False)
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
    if speedup := report.get("speedup"):
        low, high = speedup["ci95"]
        rows.append(("against baseline", f"{speedup['ratio']:.2f} × ({low:.2f} to {high:.2f})"))
    rows += [(key.replace("_mb", ", MB"), _figures(report[key]))
             for key in ("size_mb", "memory_mb") if report.get(key)]  # fmt: skip
    return rows


def _data(data: Mapping[str, Any]) -> str:
    """The rows, and how they were found: `reviews.csv, 872 rows (text, label: …)`."""
    text = f"{data['source']}, {data['n']} rows"
    if data.get("left_out"):
        text += f" without the {data['left_out']} that calibrated it"
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
    return (
        f"{protocol['batch_size']} × {protocol['seq_len']}, {protocol['warmup']} + "
        f"{protocol['iterations']} runs, {protocol['threads']} threads"
    )


def _figures(values: Any) -> str:
    if not isinstance(values, Mapping):
        return str(values)
    return ", ".join(
        f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
    )
