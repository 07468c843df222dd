"""The build that an analysis comes to, and what to expect of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qdeploy.analyze.advice import is_costly
from qdeploy.analyze.remedy import ENOUGH_DB
from qdeploy.commands import command, free_place
from qdeploy.figures import decibels
from qdeploy.schemas.analysis import AnalyzedSite, MeasuredPlan, NextBuild

# A plan with this much less noise is worth one more option, or the time of its groups.
_WORTH_DB = 1.0


def next_build(
    model: str,
    plans: Sequence[MeasuredPlan],
    sites: Mapping[str, AnalyzedSite],
    asked: Mapping[str, object],
) -> NextBuild:
    """The simplest plan whose noise is low enough, or else the one with the least.

    Low enough is what int8 weights add anyway (`ENOUGH_DB`).

    Args:
        model: model directory.
        plans: of the asked scope and of others, as `Measured` has them; empty where none was run.
        sites: entries of the report by tensor.
        asked: options of the analysis that a build needs too.

    Returns:
        `options` of `qdeploy.build` beside model and engine directory, `command` (the same for a
        shell), `plan` (which of the plans it is; None where none was run) and `reason`, a sentence.
    """
    options: dict[str, Any]
    if not plans:
        treated = any(is_costly(site) for site in sites.values())
        options = {"strategy": "peg" if treated else "w8a8", **asked}
        reason = "No cost was measured; this goes by the channels' ranges alone."
        return _build(model, options, None, reason)
    own = [plan for plan in plans if plan["scope"] == plans[0]["scope"]]
    chosen = own[0]
    for plan in own[1:]:
        if chosen["sqnr_db"] < ENOUGH_DB and plan["sqnr_db"] > chosen["sqnr_db"] + _WORTH_DB:
            chosen = plan
    options = {"strategy": chosen["strategy"], **asked}
    if chosen["float_sites"]:
        options["float_sites"] = ",".join(chosen["float_sites"])
    return _build(model, options, list(plans).index(chosen), _reason(chosen, own))


def _build(model: str, options: dict[str, Any], plan: int | None, reason: str) -> NextBuild:
    command = build_command(model, options)
    return {"options": options, "command": command, "plan": plan, "reason": reason}


def build_command(model: str, options: Mapping[str, object]) -> str:
    """A command that a shell takes as it is; the engine is to stand beside the model.

    Args:
        model: model directory.
        options: of `qdeploy.build`.

    >>> build_command("my model", {"strategy": "peg", "max_length": 128})
    "qdeploy build 'my model' 'my model-peg' --strategy peg --max-length 128"
    """
    place = free_place(model, str(options["strategy"]))
    return command("build", Path(model), place, options=options)


def _reason(chosen: MeasuredPlan, own: Sequence[MeasuredPlan]) -> str:
    if chosen is own[0]:
        if chosen["sqnr_db"] >= ENOUGH_DB:
            return "One scale for each site adds less noise than int8 weights do."
        return "Neither groups of channels nor sites in float lower the noise."
    gain = chosen["sqnr_db"] - own[0]["sqnr_db"]
    return (
        f"The SQNR of the logits is {decibels(gain)} dB higher than with one scale for each site."
    )
