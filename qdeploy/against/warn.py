"""What should make the reader of a comparison stop."""

from __future__ import annotations

from qdeploy.figures import counted, points
from qdeploy.schemas.comparison import FileComparison

_MOST_DROP = 0.01  # as a share of the rows; told where its interval leaves no doubt


def warnings_of(report: FileComparison) -> list[str]:
    """Sentences: a constant predictor, a loss beyond doubt, saturation, products unknown."""
    found = []
    for subject in report["subjects"]:
        answers, metrics, quality = subject["answers"], subject["metrics"], subject["quality"]
        constant = bool(answers and answers.get("constant_predictor"))
        constant |= metrics is not None and metrics["constant_predictor"]
        if constant:
            found.append(
                f"CONSTANT PREDICTOR: {subject['file']} gives every one of "
                f"{report['data']['n']} rows the same class."
            )
        figure = quality["figures"][0] if quality and quality["figures"] else None
        if figure and figure["drop_ci95"] and figure["drop_ci95"][0] > _MOST_DROP:
            low, high = figure["drop_ci95"]
            found.append(
                f"{subject['file']} loses {points(low, signed=False)} to "
                f"{points(high, signed=False)} points of {figure['name']} against FP32 (95 %)."
            )
    processors = report["found"].get("processors")
    # what is computed on both sides is not known from the file, and is no reason to stop
    stored = [
        one for one in (processors or {"saturating": []})["saturating"] if one["largest_pair"]
    ]
    if stored:
        found.append(
            f"{counted(len(stored), 'INT8 product')} of {report['file']} can saturate on "
            "processors without VNNI: its answers are others there."
        )
    products = report["products"]
    if products is not None and products["not_matched"]:
        names = counted(len(products["not_matched"]), "INT8 product")
        reason = products["not_matched"][0]["reason"]
        found.append(f"What {names} of {report['file']} cost is not known: {reason}.")
    return found
