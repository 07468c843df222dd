"""The figures of a head's own metrics, and how near embeddings are."""

from __future__ import annotations

from collections.abc import Iterator

from qdeploy.figures import accuracy, correlation, counted, interval, points
from qdeploy.report.figure import Figure, Mood
from qdeploy.schemas.evaluation import Baseline, Evaluation
from qdeploy.schemas.quality import MSE, Quality, QualityFigure, judging_figure

# Figures of a multi-label classifier that go by what it says is there.
_THRESHOLDED = ("micro F1", "macro F1", "subset accuracy")


def quality_figures(report: Evaluation) -> Iterator[Figure]:
    """Each metric, with what is lost against the baseline."""
    quality, base = report["quality"], report["baseline"]
    if quality is not None:
        for figure in quality["figures"]:
            yield _metric(figure, quality, report["task"])
        if base is not None:
            for figure in quality["figures"]:
                yield from _drop(figure, quality, base["strategy"])
            if quality["kendall"] is not None:
                value, detail = correlation(quality["kendall"]), "Kendall's tau of all rows"
                yield Figure(f"ranking against {base['strategy']}", value, detail, headline=value)
    if base is not None:
        yield from _near(base)


def _metric(figure: QualityFigure, quality: Quality, task: str) -> Figure:
    value = correlation(figure["value"])
    rows = f"{counted(quality['n'], 'row')}, {task}"
    detail = f"95 %: {interval(figure['ci95'], correlation)}; {rows}"
    if quality["queries"] is not None:
        detail += f", {quality['queries']} queries"
    if figure["name"] in _THRESHOLDED and (threshold := quality.get("threshold")) is not None:
        detail += f", threshold {threshold:g}"
    own = figure["name"] == quality["metric"]
    return Figure(figure["name"], value, detail, headline=value if own else "")


def _drop(figure: QualityFigure, quality: Quality, baseline: str) -> Iterator[Figure]:
    drop, between = figure["drop"], figure["drop_ci95"]
    if drop is None or between is None:
        return
    if figure["name"] == MSE:
        detail = f"95 %: {interval(between, _rise)}"
        yield Figure(f"{MSE} rise against {baseline}", _rise(drop), detail)
        return
    value = f"{points(drop)} points"
    own = figure["name"] == quality["metric"]
    mood: Mood = "bad" if own and between[0] > 0 else ""
    detail = f"95 %: {interval(between, points)}"
    name = f"{figure['name']} drop against {baseline}"
    yield Figure(name, value, detail, mood, headline=value if own else "")


def _rise(value: float) -> str:
    return f"{value:+.4f}"


def drawn_drops(report: Evaluation) -> list[tuple[str, float, float, float]]:
    """Metric, and what is lost of it with its interval, points; none where accuracy decides.

    The squared error is left out: it has no points.
    """
    quality = report["quality"]
    if quality is None or judging_figure(quality) is None:
        return []
    found = []
    for figure in quality["figures"]:
        drop, ends = figure["drop"], figure["drop_ci95"]
        if drop is not None and ends is not None and figure["name"] != MSE:
            found.append((figure["name"], 100 * drop, 100 * ends[0], 100 * ends[1]))
    return found


def _near(base: Baseline) -> Iterator[Figure]:
    near = base.get("embeddings")
    if near is None:
        return
    value = correlation(near["cosine_mean"])
    detail = f"mean of {near['texts']} texts; 95 % are above {correlation(near['cosine_p5'])}"
    yield Figure(f"cosine to {base['strategy']}", value, detail, headline=value)
    if near["recall_at_10"] is not None:
        value = f"{accuracy(near['recall_at_10'])} %"
        detail = f"of the ten nearest texts by {base['strategy']}"
        yield Figure("recall of neighbours", value, detail, headline=value)


def quality_headline(report: Evaluation) -> str | None:
    """The result in a clause; None where there is none."""
    quality, base = report["quality"], report["baseline"]
    figure = judging_figure(quality)
    if quality is not None and figure is not None:
        text = f"{figure['name']} {correlation(figure['value'])} on {counted(quality['n'], 'row')}"
        if figure["drop"] is not None and base is not None:
            verb = "lost" if figure["drop"] >= 0 else "gained"
            lost = points(abs(figure["drop"]), signed=False)
            text += f", {lost} points {verb} against {base['strategy']}"
        return text
    near = None if base is None else base.get("embeddings")
    if near is None or base is None:
        return None
    found = correlation(near["cosine_mean"])
    return f"embeddings have a cosine of {found} with those of {base['strategy']}"
