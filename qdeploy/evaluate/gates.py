"""Gates that the user sets: judged on the finished report."""

from __future__ import annotations

from dataclasses import dataclass

from qdeploy.deploy.int8_gate import shortfall
from qdeploy.errors import GateError, PlanError
from qdeploy.figures import accuracy, points
from qdeploy.schemas.evaluation import Evaluation
from qdeploy.schemas.quality import QualityFigure, judging_figure

_ROUNDING = 1e-9  # a drop of exactly the limit passes, whatever binary fractions make of it


@dataclass(frozen=True)
class Gates:
    """What an engine must reach; `EvalOptions` holds the bounds of both.

    Attributes:
        max_drop: points of accuracy, or hundredths of the head's or the task's own metric, that it
            may lose against the baseline (0.5: half a point, or 0.005 of a correlation). Of
            embeddings without scores: of the ten nearest texts that the baseline finds.
        require_int8: least share of the FLOPs of all constant-weight products, planned or not, that
            INT8 kernels did, 0 … 1.
    """

    max_drop: float | None = None
    require_int8: float | None = None

    def check_use(self, *, baseline: bool, accuracy: bool, simulate: bool = False) -> None:
        """Refuse a gate that cannot be judged, before anything is measured.

        Raises:
            PlanError: `max_drop` without baseline or accuracy, or a share of a simulation.
        """
        if self.max_drop is not None and not (baseline and accuracy):
            lacking = "a baseline" if accuracy else "accuracy"
            raise PlanError(
                f"--max-drop needs {lacking}: pass --baseline fp32, and leave accuracy on."
            )
        if self.require_int8 is not None and simulate:
            raise PlanError(
                "--require-int8 needs kernels, and a simulation has none. Leave it out."
            )

    def refuse_drop(self, reason: str) -> None:
        """Refuse `max_drop` where there is no accuracy to lose.

        Args:
            reason: why there is none, as a clause.

        Raises:
            PlanError: `max_drop` is set.
        """
        if self.max_drop is not None:
            raise PlanError(
                f"--max-drop needs a figure that can drop, and {reason}. Leave it out, or give "
                "labelled rows."
            )

    def check(self, report: Evaluation) -> None:
        """Judge a finished report.

        Raises:
            GateError: naming every gate that was not met; its attribute `report` is the report.
        """
        failures = [text for text in (self._drop(report), self._share(report)) if text is not None]
        if failures:
            # a failed gate is a result: the caller still writes the report
            raise GateError(" ".join(failures), dict(report))

    def _share(self, report: Evaluation) -> str | None:
        int8 = report["int8"]
        return None if int8 is None else shortfall(int8, self.require_int8)

    def _drop(self, report: Evaluation) -> str | None:
        base, own = report["baseline"], report["metrics"]
        judging = judging_figure(report["quality"])
        if self.max_drop is not None and judging is not None:
            return self._quality_drop(judging, report["strategy"])
        near = None if base is None else base.get("embeddings")
        if self.max_drop is not None and near is not None and report["no_accuracy"] is not None:
            return self._neighbours_lost(near["recall_at_10"], report["strategy"])
        if self.max_drop is None or base is None or own is None:  # `check_use` asked for both
            return None
        if 100 * base["drop"] <= self.max_drop + _ROUNDING:
            return None
        return (
            f"Accuracy drops by {points(base['drop'], signed=False)} points (from "
            f"{accuracy(base['accuracy'])} % to {accuracy(own['accuracy'])} %), and --max-drop "
            f"allows {self.max_drop:g}. {_remedy(report['strategy'], self.max_drop)}"
        )

    def _neighbours_lost(self, recall: float | None, strategy: str) -> str | None:
        assert self.max_drop is not None and recall is not None
        lost = 1 - recall
        if 100 * lost <= self.max_drop + _ROUNDING:
            return None
        return (
            f"{points(lost, signed=False)} % of the ten nearest texts that the baseline finds are "
            f"lost, and --max-drop allows {self.max_drop:g}. {_remedy(strategy, self.max_drop)}"
        )

    def _quality_drop(self, figure: QualityFigure, strategy: str) -> str | None:
        assert self.max_drop is not None
        drop = figure["drop"]
        if drop is None or 100 * drop <= self.max_drop + _ROUNDING:
            return None
        return (
            f"{figure['name']} drops by {points(drop, signed=False)} hundredths (from "
            f"{figure['baseline']:.4f} to {figure['value']:.4f}), and --max-drop allows "
            f"{self.max_drop:g}. {_remedy(strategy, self.max_drop)}"
        )


def _remedy(strategy: str, max_drop: float) -> str:
    """What loses less than an engine of this strategy."""
    if strategy in ("peg", "mixed"):
        return (
            "Build with a higher --noise-target, or let --strategy auto choose "
            f"(--max-drop {max_drop:g})."
        )
    return "Try the strategy peg or mixed."
