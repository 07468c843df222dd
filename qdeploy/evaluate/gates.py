"""Gates that the user sets: judged on the finished report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qdeploy.deploy.certificate import largest_unplanned, percent
from qdeploy.errors import GateError, PlanError

_ROUNDING = 1e-9  # a drop of exactly the limit passes, whatever binary fractions make of it
_SHOWN = 3


@dataclass(frozen=True)
class Gates:
    """What an engine must reach.

    Attributes:
        max_drop: accuracy points that it may lose against the baseline (0.5: half a point).
        require_int8: least share of the FLOPs of all constant-weight products, planned or not, that
            INT8 kernels did, 0 … 1.
    """

    max_drop: float | None = None
    require_int8: float | None = None

    def check_use(self, *, baseline: bool, accuracy: bool, simulate: bool = False) -> None:
        """Refuse a gate that cannot be judged, before anything is measured.

        Raises:
            PlanError: `max_drop` without baseline or accuracy, or a value out of range.
        """
        if self.max_drop is not None:
            if not (baseline and accuracy):
                lacking = "a baseline" if accuracy else "accuracy"
                raise PlanError(
                    f"--max-drop needs {lacking}: pass --baseline ENGINE_DIR, and leave "
                    "accuracy on."
                )
            if not 0 <= self.max_drop <= 100:
                raise PlanError(f"--max-drop is {self.max_drop:g}, and 0 to 100 points make sense.")
        if self.require_int8 is not None and simulate:
            raise PlanError(
                "--require-int8 needs kernels, and a simulation has none. Leave it out."
            )
        if self.require_int8 is not None and not 0 <= self.require_int8 <= 1:
            raise PlanError(
                f"--require-int8 is {self.require_int8:g}, and a share of 0 to 1 was expected "
                "(0.99 for 99 %)."
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
                f"--max-drop needs an accuracy, and {reason}. Leave it out, or give labelled rows "
                "and a classifier."
            )

    def check(self, report: dict[str, Any]) -> None:
        """Judge a finished report.

        Raises:
            GateError: naming every gate that was not met; its attribute `report` is the report.
        """
        failures = [
            text for text in (self._drop(report), self._int8(report["int8"])) if text is not None
        ]
        if failures:
            # a failed gate is a result: the caller still writes the report
            raise GateError(" ".join(failures), dict(report))

    def _drop(self, report: Mapping[str, Any]) -> str | None:
        if self.max_drop is None:
            return None
        drop = 100 * report["baseline"]["drop"]
        if drop <= self.max_drop + _ROUNDING:
            return None
        return (
            f"Accuracy drops by {drop:.2f} points (from "
            f"{100 * report['baseline']['accuracy']:.2f} % to "
            f"{100 * report['metrics']['accuracy']:.2f} %), and --max-drop allows "
            f"{self.max_drop:g}. Try the strategy peg or mixed."
        )

    def _int8(self, int8: Mapping[str, Any]) -> str | None:
        if self.require_int8 is None:
            return None
        if not int8["planned"]:
            return "No GEMM of this engine is planned in INT8, and --require-int8 is set."
        if int8["flops_share"] >= self.require_int8 - _ROUNDING:
            return None
        fallbacks = "; ".join(
            f"{entry['site']} ran as {entry['kernel']} ({entry['reason']})"
            for entry in int8["fallbacks"][:_SHOWN]
        )
        more = len(int8["fallbacks"]) - _SHOWN
        return (
            f"INT8 kernels did {percent(int8['flops_share'])} of all constant-weight FLOPs, and "
            f"--require-int8 asks for {100 * self.require_int8:g} %: {int8['summary']}. Fell back: "
            f"{fallbacks or 'none'}{f'; and {more} more' if more > 0 else ''}. Not planned: "
            f"{largest_unplanned(int8) or 'none'}."
        )
