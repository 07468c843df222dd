"""What `eval` says of a head by its own metrics; see docs/heads.md."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta
from typing_extensions import NotRequired, TypedDict

from qdeploy.schemas.fields import Count, Share

Interval = Annotated[list[float], Meta(min_length=2, max_length=2)]  # low, high; of 95 %
ACCURACY = "accuracy"  # the metric of most classifiers; its figure is in the report's `metrics`
MSE = "mse"  # of all metrics the one that falls where answers become better, and has no points


class QualityFigure(TypedDict):
    """A metric of a head; `drop` is what is lost against the baseline, above 0 where it is worse.

    Intervals are of 95 %, by bootstrap; that of the drop is paired.
    """

    name: str
    value: float
    ci95: Interval
    baseline: float | None
    drop: float | None
    drop_ci95: Interval | None


class Quality(TypedDict):
    """How good the answers of a head are; see `qdeploy.evaluate.quality`.

    `metric` names the figure that the head is judged by, or is "accuracy"; `queries` counts those
    of a reranker. `kendall`: agreement of the ranking of all rows with the baseline's, τ-b.
    `threshold`: of a multi-label classifier, the probability above which a class is there.
    """

    metric: str
    n: Count
    queries: Count | None
    figures: list[QualityFigure]
    kendall: float | None
    threshold: NotRequired[Share]


class EmbeddingsNear(TypedDict):
    """How near embeddings are to the baseline's; see `qdeploy.evaluate.embeddings.Closeness`."""

    cosine_mean: float
    cosine_p5: float
    recall_at_10: Share | None
    texts: Count


def main_figure(quality: Quality) -> QualityFigure:
    """The figure of the head's own metric, where that is not accuracy."""
    return next(f for f in quality["figures"] if f["name"] == quality["metric"])


def judging_figure(quality: Quality | None) -> QualityFigure | None:
    """The figure that an engine is judged by in place of accuracy; None where accuracy is it."""
    if quality is None or quality["metric"] == ACCURACY:
        return None
    return main_figure(quality)
