"""`qdeploy inspect`: what a model, an engine or any ONNX file holds, and its INT8 kernels."""

from __future__ import annotations

from pathlib import Path

from qdeploy.calibrate.plan import FLOAT, SitePlan, read_plan
from qdeploy.deploy.by_layer import by_layer, causes_of_float, noisiest, rounding_of, treatment_text
from qdeploy.deploy.certificate import read_certificate
from qdeploy.deploy.int8_gate import check_share, shortfall
from qdeploy.deploy.tally import tally
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import (
    GateError,
    PlanError,
    QDeployError,
    StatisticsError,
    TargetError,
    choose,
)
from qdeploy.files.artifact import MANIFEST, kind_of, read_manifest
from qdeploy.files.integrity import read_whole, verify
from qdeploy.onnx_file.check import GRAPH
from qdeploy.schemas.inspection import (
    InspectedEngine,
    InspectedFile,
    InspectedModel,
    InspectedSite,
    Inspection,
    KeptStatistics,
    SharedFacts,
)
from qdeploy.schemas.manifest import Calibration, Contents, Interface

# Kernels of a file are found by running it on this target; others hold it against their rules.
RUN_ON = "ort-cpu"
JUDGED = (RUN_ON, *(target.name for target in TARGETS.values() if target.has_rules))
_NOISIEST = 3  # sites that the summary names


def inspect_path(
    path: str | Path, target: str | None = None, *, require_int8: float | None = None
) -> Inspection:
    """Describe a model directory, an engine directory or an ONNX file.

    Args:
        path: directory with a `qdeploy.json`, or any .onnx file.
        target: a GPU target holds the file, or a dry run's, against its rules.
        require_int8: gate: least share (0 to 1) of the FLOPs of all constant-weight products that
            INT8 kernels must do.

    Returns:
        For a model: what its manifest says, its structure, and the "statistics" that are kept. For
        an engine: its plan (treatment, reason and expected SQNR of each site), the noise that
        `build` measured, its certificate, and both by layer. For a file: its operators, and under
        "int8" what ONNX Runtime's CPU provider makes of its GEMMs, as a certificate says it.

        With a target, under "contract": {"target", "errors", "advice": counts, "rules": see
        `describe.by_rule`, "violations": [{"rule", "severity", "node", "text", "remedy"}]}. Beside
        it, under "compiled", what a compiler of that target makes of the file, where one is
        installed that needs no device.

    Raises:
        GateError: the target's rules are broken, or `require_int8` is not reached; its attribute
            `report` is the description.
        ModelError: nothing there, not readable as ONNX, or a directory with other files than those
            of its manifest.
        TargetError: a target without rules.
        PlanError: `require_int8` of what ran no kernel, or no share.
    """
    source = Path(path)
    check_share(require_int8)
    if target not in (None, *JUDGED):
        choose("target of inspect", str(target), JUDGED, TargetError)
    held = None if target == RUN_ON else target
    if require_int8 is not None and held is not None:
        raise PlanError(
            f"--require-int8 needs kernels, and --target {held} judges the graph alone. Leave one "
            "of the two out."
        )
    found = _described(source, held)
    _judge(source, found, require_int8)
    return found


def _described(source: Path, held: str | None) -> Inspection:
    # graphs are looked into with packages that an engine's plan and certificate do without
    from qdeploy.deploy.foreign import look, look_compiled

    if held is not None:
        path = source / GRAPH if source.is_dir() else source
        judged = look(path, held)
        if TARGETS[held].compiles_files:
            judged["compiled"] = look_compiled(path, held)
        return judged
    if not source.is_dir():
        return _of_engine(source, look(source, held))
    if kind_of(source) == "engine":
        return read_whole(source, lambda: _engine(source))
    return read_whole(source, lambda: _model(source))


def _of_engine(source: Path, found: InspectedFile) -> InspectedFile:
    """With the number of GEMMs that an engine plans, where its graph has another one of products.

    A GEMM whose channels have groups is a product for each group in the file.
    """
    home = source.parent
    check = found.get("int8")
    if source.name != GRAPH or not check or not (home / MANIFEST).is_file():
        return found
    try:
        if kind_of(home) != "engine":
            return found
        gemms = read_certificate(home)["planned_gemms"]
    except QDeployError:  # a damaged engine: the file is described all the same
        return found
    planned = sum(gemm["precision"] != FLOAT for gemm in gemms.values())
    if planned == check["planned"]:
        return found
    return {**found, "planned_gemms_of_engine": planned}


def _judge(source: Path, found: Inspection, require_int8: float | None) -> None:
    """Raise what the gates say."""
    checked = found.get("contract") if found["kind"] == "onnx" else None
    if checked and checked["errors"]:
        rules = [rule for rule in checked["rules"] if rule["severity"] == "error"]
        named = ", ".join(f"{rule['rule']} ({rule['count']})" for rule in rules)
        raise GateError(
            f"{source} breaks the rules of {checked['target']} in {checked['errors']} places: "
            f"{named}. Mend them as the report says, or build with --target {checked['target']}.",
            found,
        )
    if require_int8 is None:
        return
    check = None if found["kind"] == "model" else found.get("int8")
    if not check:
        raise PlanError(
            f"--require-int8 needs kernels that ran, and {source} has none: name an engine that "
            "is no dry run, or an ONNX file."
        )
    if failure := shortfall(check, require_int8):
        raise GateError(failure, found)


def _model(directory: Path) -> InspectedModel:
    from qdeploy.graph.sites import find_structure
    from qdeploy.onnx_file.check import check_inside, load_graph

    manifest = read_manifest(directory, "model")
    verify(directory, manifest)
    check_inside(directory / GRAPH)
    structure = find_structure(
        load_graph(directory / GRAPH, "Export the checkpoint again."), directory / GRAPH
    )
    return {
        "kind": "model",
        **_shared(manifest),
        "verification": manifest.get("verification"),
        "size_mb": _size_mb(directory, manifest),
        "gemms": len(structure.gemms),
        "sites": len(structure.sites),
        "embedding_tables": {t.name: [t.rows, t.columns] for t in structure.tables},
        "statistics": _statistics(directory),
    }


def _statistics(directory: Path) -> list[KeptStatistics]:
    """What is kept from calibrations; of a damaged file its name alone."""
    from qdeploy.calibrate.run import FOLDER
    from qdeploy.calibrate.statistics import Statistics

    found: list[KeptStatistics] = []
    for path in sorted((directory / FOLDER).glob("*.npz")):
        try:
            origin = Statistics.load(path).origin
        except StatisticsError:
            found.append({"file": path.name, "damaged": True})
            continue
        found.append(
            {
                "file": path.name,
                "damaged": False,
                "data": origin.data,
                "rows": origin.rows,
                "seed": origin.seed,
                "max_length": origin.max_length,
            }
        )
    return found


def _shared(manifest: Interface) -> SharedFacts:
    return {
        "model_type": manifest.get("model_type"),
        "task": manifest["task"],
        "labels": manifest["labels"],
        "head": manifest.get("head"),
        "max_length": manifest["max_length"],
        "inputs": manifest["inputs"],
        "source": manifest["source"],
    }


def _engine(directory: Path) -> InspectedEngine:
    manifest = read_manifest(directory, "engine")
    verify(directory, manifest)
    plan = read_plan(directory)
    certificate = read_certificate(directory)
    sites = [_site(site) for site in plan.sites.values()]
    check = certificate.get("int8")
    planned = tally(certificate["planned_gemms"], {}, 0.0, certificate["other_products"])
    gemms = (check or planned)["gemms"]
    others = certificate["other_products"]
    # JSON has them by name
    gemms = {name: gemms[name] for name in (*plan.gemms, *others) if name in gemms}
    return {
        "kind": "engine",
        **_shared(manifest),
        "checkpoint": manifest.get("checkpoint"),
        "strategy": manifest["strategy"],
        "target": manifest["target"],
        "scope": manifest["scope"],
        "rest_precision": manifest.get("rest_precision", "f32"),
        "options": manifest.get("options"),
        "dry_run": manifest.get("dry_run"),
        "noise": manifest.get("noise"),
        "left_out": manifest.get("left_out"),
        "calibration": _calibration(manifest.get("calibration")),
        "size_mb": _size_mb(directory, manifest),
        "planned_share": planned["planned_share"],
        "noisiest": noisiest(sites, _NOISIEST),
        "layers": by_layer(sites, gemms, ran=check is not None, others=others),
        "float": causes_of_float(gemms) if check else [],
        "sites": sites,
        "planned_gemms": certificate["planned_gemms"],
        "other_products": others,
        "int8": check,
        "compiled": certificate.get("compiled"),
        "processors": certificate.get("processors"),
        "estimate": manifest.get("estimate"),
    }


def _site(site: SitePlan) -> InspectedSite:
    return {
        "site": site.name,
        "treatment": site.treatment.kind,
        "rounding": rounding_of(site.treatment),
        "treatment_text": treatment_text(site.treatment),
        "sqnr_db": site.sqnr_db,
        "reason": site.reason,
    }


def _calibration(found: Calibration | None) -> Calibration | None:
    """Of the rows that calibrated an engine all but one entry per row."""
    if found is None:
        return None
    short: Calibration = {**found}
    short.pop("row_lengths", None)
    short.pop("row_hashes", None)
    return short


def _size_mb(directory: Path, manifest: Contents) -> float:
    """Of every file as it was written, 10⁶ bytes; of an older directory as it is."""
    sizes: list[int] = list((manifest.get("sizes") or {}).values())
    if not sizes:
        sizes = [path.stat().st_size for path in directory.iterdir() if path.is_file()]
    return round(sum(sizes) / 1e6, 3)
