"""`qdeploy analyze`: the outlier report of a model directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from qdeploy.analyze.advice import costly, recommend, treatment_of
from qdeploy.analyze.costs import Costs, SwitchedModel
from qdeploy.analyze.figures import figures, recurring
from qdeploy.analyze.layers import FFN_RESIDUAL, Place, places
from qdeploy.analyze.levels import compare_levels
from qdeploy.analyze.remedy import fewest_groups
from qdeploy.artifact import package_versions
from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.context import Context, weights_of
from qdeploy.calibrate.options import ALL_SCOPE, PlanOptions
from qdeploy.calibrate.plan import PerTensor, Plan
from qdeploy.calibrate.run import calibrate_model, calibration_batches, load_model
from qdeploy.calibrate.sites import find_structure
from qdeploy.calibrate.statistics import Statistics
from qdeploy.calibrate.strategies import make_plan
from qdeploy.calibrate.structure import LAYER_NORM, RESIDUAL, Site, Structure
from qdeploy.data.infer import AUTO
from qdeploy.onnx_files import GRAPH
from qdeploy.runs import blaming
from qdeploy.threads import check_threads

if TYPE_CHECKING:
    from qdeploy.data.tasks import Columns

Array = npt.NDArray[Any]
Progress = Callable[[str, int, int], None]

SCHEMA = 1
_PICTURED = 3  # costliest sites whose levels are counted


def analyze_model(
    model_dir: str | Path,
    *,
    data: str | None = None,
    task: str = AUTO,
    columns: Columns | str | None = None,
    calibration_rows: int = 128,
    max_length: int | None = None,
    statistics: str | Path | None = None,
    scope: str = ALL_SCOPE,
    activations: str = "asymmetric",
    cost_rows: int = 32,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The outlier report of a model; see `qdeploy.api.analyze`."""
    directory = Path(model_dir)
    threads = check_threads(threads)
    request: dict[str, Any] = {"data": data, "task": task, "columns": columns, "seed": seed}
    if statistics is None:
        statistics = calibrate_model(
            directory, **request, rows=calibration_rows, max_length=max_length, progress=progress
        )
    observed = Statistics.load(Path(statistics))
    if max_length is None:  # rows as those that the statistics were made of
        max_length = observed.origin.max_length
    model, digest = load_model(directory)
    observed.require_model(digest)
    structure = find_structure(model, directory / GRAPH)
    observed.require_sites(structure)
    options = PlanOptions(scope=scope, activations=activations)
    context = Context(structure, observed.sites, weights_of(model, structure), options)
    plain, treated = make_plan("w8a8", context), make_plan("peg", context)
    where = places(structure)
    entries = {
        site.tensor: _entry(site, observed, where[site.tensor], treated) for site in context.sites
    }
    report = _heading(directory, observed, options)
    if cost_rows:
        batches = list(
            calibration_batches(
                directory, observed.origin, rows=cost_rows, max_length=max_length, **request
            )
        )
        affines = {tensor: _affine(plain, tensor) for tensor in entries}
        with blaming(directory / GRAPH):
            costs = Costs(SwitchedModel(model, context.sites, threads=threads), batches)
            report["w8a8_db"] = _measure(entries, affines, costs, context, progress)
            worst = [structure.by_tensor[tensor] for tensor in _costliest(entries, structure)]
            levels = compare_levels(model, worst, affines, treated, batches, threads=threads)
        for tensor, found in levels.items():
            entries[tensor]["levels"] = found
        report["cost_rows"] = cost_rows
    report["recommendations"] = recommend(entries)
    report["recurring"] = recurring(entries)
    report["heat_map"] = _heat_map(entries, observed)
    report["sites"] = list(entries.values())
    return report


def _affine(plan: Plan, tensor: str) -> Affine:
    """The one scale of a site under w8a8."""
    treatment = plan.treatment(tensor)
    assert isinstance(treatment, PerTensor)
    return treatment.affine


def _measure(
    entries: Mapping[str, dict[str, Any]],
    affines: Mapping[str, Affine],
    costs: Costs,
    context: Context,
    progress: Progress | None,
) -> float:
    """Fill `cost` of every site, and `remedy` of the costly ones; the SQNR with all of them."""
    every = {tensor: (affine.scale, affine.zero_point) for tensor, affine in affines.items()}
    whole, found = costs.per_site(every, progress)
    for tensor, cost in found.items():
        entries[tensor]["cost"] = vars(cost)
        site = context.structure.by_tensor[tensor]
        if costly(entries[tensor]) and site.channels > 1:
            entries[tensor]["remedy"] = fewest_groups(context, site, costs)
    return whole


def _heading(directory: Path, observed: Statistics, options: PlanOptions) -> dict[str, Any]:
    origin = observed.origin
    return {
        "schema": SCHEMA,
        "kind": "analysis",
        "model": str(directory),
        "data": {"source": origin.data, "rows": origin.rows, **origin.lengths.to_json()},
        "scope": options.scope,
        "activations": options.activations,
        "versions": package_versions(),
        "w8a8_db": None,
        "cost_rows": 0,
    }


def _entry(site: Site, observed: Statistics, place: Place, treated: Plan) -> dict[str, Any]:
    """All that is known of a site before anything runs."""
    known = figures(observed.sites[site.tensor], observed.origin.token_classes)
    return {
        "name": site.name,
        "kind": place.kind,
        "layer": place.layer,
        "depth": place.depth,
        "stream": bool(site.roles & {RESIDUAL, LAYER_NORM}) and site.channels > 1,
        **known,
        "treatment": treatment_of(treated, site.tensor),
        "expected_db": treated.sites[site.tensor].sqnr_db,
        "cost": None,
        "remedy": None,
        "levels": None,
    }


def _costliest(entries: Mapping[str, dict[str, Any]], structure: Structure) -> list[str]:
    """Sites with channels, by how little is left of the logits when they alone are rounded."""
    named = [t for t in entries if structure.by_tensor[t].channels > 1]
    return sorted(named, key=lambda t: float(entries[t]["cost"]["alone_db"]))[:_PICTURED]


def _heat_map(entries: Mapping[str, dict[str, Any]], observed: Statistics) -> dict[str, Any] | None:
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
