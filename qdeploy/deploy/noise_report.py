"""What `build` says of an engine's noise: figures, and below a floor a warning with its sources."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

from qdeploy.calibrate.batches import Sample
from qdeploy.calibrate.model import load_model
from qdeploy.calibrate.plan import read_plan
from qdeploy.calibrate.strategies import FP32
from qdeploy.deploy.logit_noise import Difference, Outputs, Runs, difference, outputs_of
from qdeploy.deploy.noise_sources import SingleSites, Source
from qdeploy.deploy.ort.simulator import SimulatedEngine
from qdeploy.deploy.targets.registry import find_target
from qdeploy.errors import QDeployWarning
from qdeploy.figures import changed, decibels, logit_difference
from qdeploy.graph.sites import find_structure
from qdeploy.head import head_of
from qdeploy.names import few, short_name
from qdeploy.onnx_file.check import GRAPH
from qdeploy.schemas.manifest import EngineFields, Noise, Remedy

# Noise of 15 dB is 18 % of the logits' own size: of answers whose margins are spread evenly around
# zero it changes arctan(0.18) / π = 6 %. W8A8 of the embedded model lies at 21 dB and loses no
# accuracy; the collapses that were seen lie below 10 (docs/adr/0018).
FLOOR_DB = 15.0
_COUNTS = (1, 2, 4, 8)  # noisiest sites that are tried in float, until the floor is reached
_MARGIN_DB = 1.0  # above the floor, as the remedy is measured on fewer rows
_NAMED = 3  # the others are in the manifest, and `inspect -v` lists them


def measure_noise(
    model_dir: Path,
    engine_dir: Path,
    manifest: EngineFields,
    sample: Sample,
    engine: Runs | None = None,
) -> Noise | None:
    """Hold a finished engine against FP32 on a few rows.

    Args:
        model_dir: model directory that it was built from.
        engine_dir: its directory, whole but for the manifest.
        manifest: of the engine.
        sample: the rows.
        engine: it, if it is loaded; where it cannot run here (a dry run) its graph is simulated.

    Returns:
        The report; None for a plain FP32 engine, which has nothing to lose. Its "sqnr_db" is None
        where outputs are equal, or not finite.
    """
    if manifest["strategy"] == FP32 and manifest.get("rest_precision", "f32") == "f32":
        return None
    reference = outputs_of(SimulatedEngine(model_dir / GRAPH), sample)
    runs = engine or SimulatedEngine(engine_dir / "model.onnx")
    head = head_of(engine_dir, manifest)
    found = difference(reference, outputs_of(runs, sample), sample, head)
    report: Noise = {
        "data": sample.source,
        "rows": sample.rows,
        "simulated": engine is None,
        "sqnr_db": round(found.sqnr_db, 2) if math.isfinite(found.sqnr_db) else None,
        "equal": found.sqnr_db == math.inf,
        "finite": found.sqnr_db > -math.inf,
        "flipped": found.flipped,
        "answers": found.answers,
        "max_abs_diff": float(f"{found.max_abs:.4g}") if math.isfinite(found.max_abs) else None,
        "floor_db": FLOOR_DB,
        "sources": [],
        "remedy": None,
        "warning": None,
    }
    if found.sqnr_db >= FLOOR_DB:
        return report
    sources, remedy = _sources(model_dir, engine_dir, manifest, sample.first(), reference)
    report["sources"] = [{"site": s.name, "alone_db": _rounded(s.alone_db)} for s in sources]
    report["remedy"] = remedy
    report["warning"] = _warning(report, found, manifest["strategy"], sources)
    return report


def warn_of_noise(report: Noise | None) -> None:
    """Say what `measure_noise` found suspicious."""
    if report is not None and report["warning"] is not None:
        warnings.warn(report["warning"], QDeployWarning, stacklevel=3)


def _sources(
    model_dir: Path,
    engine_dir: Path,
    manifest: EngineFields,
    sample: Sample,
    reference: Outputs,
) -> tuple[list[Source], Remedy | None]:
    """The noisiest sites on some rows, and those of them whose way back to float is measured."""
    plan = read_plan(engine_dir)
    if not plan.quantized_gemms and not plan.tables and not plan.sites:
        return [], None
    model, _ = load_model(model_dir)
    rows, tokens = manifest["opt_shape"]
    sites = SingleSites(
        model,
        plan,
        find_structure(model),
        find_target(manifest["target"]),
        rows * min(tokens, manifest["max_length"]),
        sample,
        reference[: len(sample.batches)],
        head_of(engine_dir, manifest),
    )
    found = sites.sources()
    remedy: Remedy | None = None
    floats = [source for source in found if source.tensor is not None]  # tables have no option
    for count in _COUNTS:
        if count // 2 < len(floats):
            level = sites.without(floats[:count])
            remedy = {
                "float_sites": [source.name for source in floats[:count]],
                "sqnr_db": _rounded(level),
            }
            if level >= FLOOR_DB + _MARGIN_DB:
                break
    return found, remedy


def _rounded(level: float | None) -> float | None:
    return None if level is None or not math.isfinite(level) else round(level, 1)


def _warning(report: Noise, found: Difference, strategy: str, sources: list[Source]) -> str:
    where = f"on {report['rows']} rows of {report['data']}"
    if not report["finite"]:
        text = f"The engine gives outputs that are not finite {where}: it answers nothing."
    else:
        outputs = "outputs" if report["flipped"] is None else "logits"
        text = (
            f"The {outputs} stand {decibels(found.sqnr_db)} dB above this engine's noise {where}, "
            f"and at least {FLOOR_DB:g} dB is expected: {_flips(found)}largest difference "
            f"{logit_difference(found.max_abs)}."
        )
    if sources:
        named = [f"{short_name(s.name)} ({_level(s.alone_db)} alone)" for s in sources]
        text += f" Noisiest sites: {few(named, _NAMED)}."
    return f"{text} {_remedy(report, strategy)}"


def _flips(found: Difference) -> str:
    if found.flipped is None:
        return ""
    return f"{changed(found.flipped, found.answers)}, "


def _level(level: float) -> str:
    return "not finite" if level == -math.inf else f"{decibels(level)} dB"


def _remedy(report: Noise, strategy: str) -> str:
    """What to type next: these sites in float where that was measured to suffice."""
    found = report.get("remedy")
    other = "--noise-target 40" if strategy == "peg" else "--strategy peg"
    check = "`qdeploy eval --baseline` tells what it costs in accuracy."
    if found is None:
        return f"Try {other}, or another strategy; {check}"
    names, level = found["float_sites"], found["sqnr_db"]
    if level is not None and level >= FLOOR_DB + _MARGIN_DB:
        noisiest = "noisiest site" if len(names) == 1 else f"{len(names)} noisiest sites"
        return (
            f"With the {noisiest} in float it is {decibels(level)} dB on the first of these rows "
            f"(`qdeploy inspect -v` gives the option). Or try {other}. {check}"
        )
    reached = (
        ""
        if level is None
        else f", and {decibels(level)} dB with the {len(names)} noisiest in float"
    )
    return f"It comes from many sites{reached}: try {other}, or another strategy. {check}"
