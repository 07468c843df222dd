"""The page of `qdeploy inspect FILE --against FP32`."""

from __future__ import annotations

from qdeploy.figures import counted, decibels, megabytes, percent, points
from qdeploy.names import short_name
from qdeploy.report.comparison_figures import (
    MEASURES,
    costliest,
    figure_of,
    headline,
    level_text,
    metric_of,
    products_note,
    table_of,
)
from qdeploy.report.page import Card, Column, Page, Row, Section, Table
from qdeploy.schemas.comparison import FileComparison
from qdeploy.schemas.quality import ACCURACY

_BOTH = 2  # FP32 and the file
_UNSURE = 0.05  # p below which a drop is told as one


def page(report: FileComparison) -> Page:
    """The comparison as a page that can be posted under the file."""
    sections = [_comparison(report)]
    if report["products"] is not None:
        sections.append(_products(report))
    sections += [_fallbacks(report), _rows(report)]
    return Page(
        title=f"{report['file']} against {report['against']}",
        kicker=f"{report['file']}, {report['head']}, against {report['against']}: "
        f"{counted(report['data']['n'], 'row')} of {report['data']['source']}",
        headline=headline(report),
        cards=tuple(_cards(report)),
        warnings=tuple(report["warnings"]),
        sections=tuple(sections),
        footer=", ".join(f"{name} {version}" for name, version in report["versions"].items()),
    )


def _cards(report: FileComparison) -> list[Card]:
    base, own = report["subjects"][:_BOTH]
    answers, figure, found = own["answers"], figure_of(own), []
    assert answers is not None
    if "agreement" in answers:
        found.append(Card(f"{100 * answers['agreement']:.2f} %", "answers that are FP32's"))
    level = level_text(answers["sqnr_db"], equal=answers["equal_logits"])
    found.append(Card(level, "output SQNR against FP32"))
    if figure and figure["drop"] is not None and figure["name"] == ACCURACY:
        sure = answers.get("mcnemar_p", 1.0) < _UNSURE and figure["drop"] > 0
        text = "points of accuracy lost" + ("" if sure else "; may be chance")
        found.append(Card(points(figure["drop"]), text, "bad" if sure else ""))
    found.append(Card(percent(own["int8_share"]), "of the work in INT8"))
    ratio = base["size_mb"] / own["size_mb"]
    found.append(Card(f"1/{ratio:.1f}", f"of FP32's size: {megabytes(own['size_mb'])} MB"))
    return found


def _comparison(report: FileComparison) -> Section:
    names = [name or metric_of(report) or "no labels" for name in MEASURES]
    columns = tuple(Column(name, text=at == 0) for at, name in enumerate(names))
    constant = [
        bool(one["answers"] and one["answers"].get("constant_predictor"))
        for one in report["subjects"]
    ]
    rows = tuple(
        Row(cells, "bad" if bad else "")
        for cells, bad in zip(table_of(report), constant, strict=True)
    )
    note = "In brackets 95 % intervals: Wilson's of the agreement, of the drop by paired bootstrap."
    if (timing := report["timing"]) is not None:
        note += (
            f" Times of {timing['batch_size']} rows of {timing['seq_len']} tokens, "
            f"{timing['iterations']} runs, {timing['threads']} threads, in rounds that alternate."
        )
    if (built := report["rebuilt"]) is not None:
        note += (
            f" Rebuilt: {built['strategy']} for {built['target']}, calibrated on "
            f"{counted(built['calibration_rows'], 'row')} of {built['calibration']}, none of which "
            "is compared."
        )
    return Section("Comparison", table=Table(columns, rows), note=note)


def _products(report: FileComparison) -> Section:
    products = report["products"]
    assert products is not None
    rows = [
        Row((short_name(one["of"]), one["product"], decibels(one["alone_db"] or 0), ""))
        for one in costliest(report)
    ]
    rows += [Row(("", one["product"], "", one["reason"]), "bad") for one in products["not_matched"]]
    columns = (
        Column("product of FP32", text=True),
        Column("in the file", text=True),
        Column("alone, dB"),
        Column("not known", text=True),
    )
    return Section(
        "What each INT8 product costs",
        table=Table(columns, tuple(rows)),
        note=products_note(report),
    )


def _fallbacks(report: FileComparison) -> Section:
    found = report["found"]
    items = [f"On ONNX Runtime's CPU provider: {found['int8']['summary']}."]
    if (processors := found.get("processors")) is not None:
        items.append(f"Processors: {processors['summary']}.")
    for cause in found.get("float") or []:
        what = "In float" if cause["planned"] == "float" else "Fell back to float"
        names = ", ".join(map(short_name, cause["gemms"]))
        items.append(
            f"{what}: {counted(cause['count'], 'product')}, {percent(cause['flops_share'])} of the "
            f"FLOPs ({cause['reason']}): {names}"
        )
    return Section("Kernels", items=tuple(items))


def _rows(report: FileComparison) -> Section:
    data = report["data"]
    settings = {
        "rows": f"{data['n']} of {data['source']}",
        "tokens of a row at most": data["max_length"],
        "rows that were cut": data["truncated"],
        "rows left out, since they calibrated": data["left_out"],
        "tokenizer": report["tokenizer"],
        "not held against labels": report["no_accuracy"],
    }
    rows = tuple(Row((name, str(value))) for name, value in settings.items() if value is not None)
    return Section("Rows", table=Table((Column("", text=True), Column("", text=True)), rows))
