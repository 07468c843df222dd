"""`qdeploy analyze`: the outlier report of a model directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qdeploy.analyze.advice import is_costly, recommend, treatment_of
from qdeploy.analyze.figures import figures, recurring
from qdeploy.analyze.layers import FFN_RESIDUAL, Place, places
from qdeploy.analyze.levels import compare_levels
from qdeploy.analyze.measure import Measured, as_built, measure
from qdeploy.analyze.next_build import next_build
from qdeploy.analyze.options import AnalyzeOptions
from qdeploy.calibrate.context import Context, weights_of
from qdeploy.calibrate.model import load_model
from qdeploy.calibrate.options import PlanOptions
from qdeploy.calibrate.plan import Plan
from qdeploy.calibrate.run import calibrate_model, calibration_batches
from qdeploy.calibrate.statistics import Statistics
from qdeploy.calibrate.strategies import make_plan
from qdeploy.data.infer import AUTO
from qdeploy.data.reading import Reading
from qdeploy.data.tasks import find_task, generic_task
from qdeploy.files.artifact import package_versions, read_manifest
from qdeploy.graph.session import blaming
from qdeploy.graph.sites import find_structure
from qdeploy.graph.structure import LAYER_NORM, RESIDUAL, Site, Structure
from qdeploy.head import head_of
from qdeploy.machine.threads import check_threads
from qdeploy.onnx_file.check import GRAPH
from qdeploy.options import defaults, flat, given_or
from qdeploy.schemas.analysis import Analysis, AnalyzedSite, HeatMap, LeftOut
from qdeploy.schemas.reading import ReadingFields
from qdeploy.types import PathLike, Progress

if TYPE_CHECKING:
    from qdeploy.data.tasks import Columns


SCHEMA = 2
SECONDS = 120.0  # of measuring: BERT-base takes about so long on two cores
_PICTURED = 3  # costliest sites whose levels are counted


def analyze_model(
    model_dir: PathLike,
    options: AnalyzeOptions | None = None,
    *,
    progress: Progress | None = None,
    **fields: Any,
) -> Analysis:
    """The outlier report of a model; see `qdeploy.api.analyze`.

    Args:
        fields: of the options, by name.
    """
    asked = given_or(AnalyzeOptions, options, fields)
    directory, given = Path(model_dir), asked.calibration
    threads = check_threads(asked.threads)
    statistics, max_length = given.statistics, given.max_length
    if statistics is None:
        statistics = calibrate_model(directory, given, progress=progress)
    observed = Statistics.load(Path(statistics))
    if max_length is None:  # rows as those that the statistics were made of
        max_length = observed.origin.max_length
    model, digest = load_model(directory)
    observed.require_model(digest)
    structure = find_structure(model, directory / GRAPH)
    observed.require_sites(structure)
    chosen = PlanOptions(scope=asked.scope, activations=asked.activations)
    context = Context(structure, observed.sites, weights_of(model, structure), chosen)
    plain, treated = make_plan("w8a8", context), make_plan("peg", as_built(context))
    where = places(structure)
    entries = {
        site.tensor: _entry(site, observed, where[site.tensor], plain, treated)
        for site in context.sites
    }
    found: Measured | None = None
    if asked.cost_rows:
        batches = list(
            calibration_batches(
                directory, observed.origin, replace(given, max_length=max_length), asked.cost_rows
            )
        )
        head = head_of(directory, read_manifest(directory, "model"))
        with blaming(directory / GRAPH):
            found = measure(
                *(model, context, batches, head),
                threads=threads,
                seconds=asked.seconds,
                progress=progress,
            )
            _fill(entries, found)
            worst = [structure.by_tensor[tensor] for tensor in _costliest(entries, structure)]
            levels = compare_levels(model, worst, plain, treated, batches, threads=threads)
        for tensor, counted in levels.items():
            entries[tensor]["levels"] = counted
    unnamed = given.data is None and given.statistics is None
    told = _named(observed.origin.reading if unnamed else None) | _told(asked)
    return _report(directory, observed, chosen, asked, entries, found, told)


def _told(asked: AnalyzeOptions) -> dict[str, object]:
    """The options that `build` has to be told too: those that are not their default."""
    given, plain = flat(asked), defaults(AnalyzeOptions)
    calibration = asked.calibration
    given["columns"] = _columns_text(calibration.columns, calibration.task)
    mine = ("cost_rows", "seconds", "threads")
    changed = {n: v for n, v in given.items() if n not in mine and v != plain[n]}
    return {name: v if isinstance(v, int) else str(v) for name, v in changed.items()}


def _named(reading: ReadingFields | None) -> dict[str, object]:
    """The options that name rows which an earlier command was told of: by the time of the build the
    model may have been calibrated on others."""
    if reading is None:
        return {}
    found = Reading.from_json(reading)
    own = find_task(found.task)
    generic = own == generic_task(found.places)
    changed = {
        name: other
        for name, other in (
            (own.first, found.places.first),
            (own.second, found.places.second),
            found.places.spelled_label,
        )
        if name != other
    }
    options = {
        "data": found.source,
        "task": None if generic else found.task,
        "columns": ",".join(f"{name}={other}" for name, other in changed.items()) or None,
        "max_length": found.max_length,
    }
    return {name: value for name, value in options.items() if value is not None}


def _columns_text(columns: Columns | str | None, task: str) -> str | None:
    """Columns as they are typed: "question=first,sentence=second"."""
    if columns is None or isinstance(columns, str):
        return columns
    own = find_task("text-pair" if task == AUTO else task).columns
    label, spelled = columns.spelled_label
    names = {own.first: columns.first, own.second: columns.second, label: spelled}
    return ",".join(f"{name}={other}" for name, other in names.items() if name and other)


def _fill(entries: Mapping[str, AnalyzedSite], found: Measured) -> None:
    """Write what was measured into the sites."""
    for tensor, cost in found.costs.items():
        entries[tensor]["cost"] = {**cost, "gain_db": found.gains.get(tensor)}
        entries[tensor]["remedy"] = found.remedies.get(tensor)


def _left_out(entries: Mapping[str, AnalyzedSite], found: Measured) -> LeftOut:
    costly = [tensor for tensor in found.costs if is_costly(entries[tensor])]
    return {
        "costs": [e["name"] for t, e in entries.items() if t not in found.costs],
        "remedies": [entries[t]["name"] for t in costly if t not in found.remedies],
        "gains": [e["name"] for t, e in entries.items() if t not in found.gains],
    }


def _report(
    directory: Path,
    observed: Statistics,
    options: PlanOptions,
    asked: AnalyzeOptions,
    entries: Mapping[str, AnalyzedSite],
    found: Measured | None,
    told: Mapping[str, object],
) -> Analysis:
    """The whole; `found` is None where no cost was asked for, `told` what a build is told too."""
    origin = observed.origin
    plans = [] if found is None else found.plans
    nothing: LeftOut = {"costs": [], "remedies": [], "gains": []}
    return {
        "schema": SCHEMA,
        "kind": "analysis",
        "model": str(directory),
        "data": {"source": origin.data, "rows": origin.rows, **origin.lengths.to_json()},
        "scope": options.scope,
        "activations": options.scheme,
        "versions": package_versions(),
        "w8a8_db": plans[0]["sqnr_db"] if plans else None,
        "cost_rows": asked.cost_rows if found else 0,
        "seconds": asked.seconds if found else None,
        "answers": found.answers if found else None,
        "plans": plans,
        "left_out": _left_out(entries, found) if found else nothing,
        "recommendations": recommend(entries),
        "build": next_build(str(directory), plans, entries, told),
        "recurring": recurring(entries),
        "heat_map": _heat_map(entries, observed),
        "sites": list(entries.values()),
    }


def _entry(
    site: Site, observed: Statistics, place: Place, plain: Plan, treated: Plan
) -> AnalyzedSite:
    """All that is known of a site before anything runs."""
    known = figures(observed.sites[site.tensor], observed.origin.token_classes)
    return {
        "name": site.name,
        "short": place.short,
        "kind": place.kind,
        "layer": place.layer,
        "depth": place.depth,
        "stream": bool(site.roles & {RESIDUAL, LAYER_NORM}) and site.channels > 1,
        **known,
        "treatment": treatment_of(treated, site.tensor),
        "w8a8_expected_db": plain.sites[site.tensor].sqnr_db,
        "expected_db": treated.sites[site.tensor].sqnr_db,
        "cost": None,
        "remedy": None,
        "levels": None,
    }


def _costliest(entries: Mapping[str, AnalyzedSite], structure: Structure) -> list[str]:
    """Sites with channels, by how little is left of the logits when they alone are rounded."""
    levels = {
        tensor: entry["cost"]["alone_db"]
        for tensor, entry in entries.items()
        if entry["cost"] and structure.by_tensor[tensor].channels > 1
    }
    return sorted(levels, key=levels.__getitem__)[:_PICTURED]


def _heat_map(entries: Mapping[str, AnalyzedSite], observed: Statistics) -> HeatMap | None:
    """Largest |x| of each channel over the median channel's, per depth of the residual stream."""
    stream = {tensor: entry for tensor, entry in entries.items() if entry["stream"]}
    kinds = {entry["kind"] for entry in stream.values()}
    if not kinds:
        return None
    kind = FFN_RESIDUAL if FFN_RESIDUAL in kinds else sorted(kinds)[0]
    chosen = {tensor: entry for tensor, entry in stream.items() if entry["kind"] == kind}
    values = []
    for tensor in chosen:
        absolute = observed.sites[tensor].absolute
        ratio = absolute / max(float(np.median(absolute)), 1e-30)
        values.append([round(float(value), 3) for value in ratio])
    return {"kind": kind, "layers": [entry["layer"] for entry in chosen.values()], "values": values}
