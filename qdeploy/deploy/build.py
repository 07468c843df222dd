"""`qdeploy build`: model directory + strategy + target → engine directory."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from qdeploy.calibrate.batches import Sample
from qdeploy.calibrate.model import load_model, model_digest
from qdeploy.calibrate.run import calibrate_model, reading_of
from qdeploy.calibrate.sample import measuring_sample
from qdeploy.calibrate.statistics import Statistics
from qdeploy.calibrate.strategies import FP16, FP32, needs_statistics
from qdeploy.deploy.certificate import CERTIFICATE, certify, expected, probe_feeds
from qdeploy.deploy.compilation import certify_compiled
from qdeploy.deploy.directory import copy_companions, manifest_fields, size_mb, write_guides
from qdeploy.deploy.engine import Engine
from qdeploy.deploy.lower import lower
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.noise_report import measure_noise, warn_of_noise
from qdeploy.deploy.options import BuildOptions
from qdeploy.deploy.planning import plan_of, summary
from qdeploy.deploy.product_flops import count_products
from qdeploy.deploy.request import Request
from qdeploy.deploy.roofline.summary import estimates
from qdeploy.deploy.saturation import pair_sums, processors_of
from qdeploy.deploy.store_canary import store_canary
from qdeploy.deploy.tally import largest_unplanned, tally
from qdeploy.errors import ModelError, QDeployWarning, VerificationError
from qdeploy.figures import percent
from qdeploy.files.artifact import read_manifest, write_graph, write_json, write_manifest
from qdeploy.files.integrity import read_whole
from qdeploy.files.publish import staged
from qdeploy.graph.session import blaming
from qdeploy.graph.sites import find_structure
from qdeploy.names import eight_bits, short_name
from qdeploy.onnx_file.check import GRAPH
from qdeploy.options import given_or
from qdeploy.schemas.built import Built
from qdeploy.schemas.certificate import Certificate, Int8, Tally
from qdeploy.schemas.manifest import EngineFields, Interface
from qdeploy.schemas.reading import ReadingFields
from qdeploy.types import Array, PathLike, Progress

# Weights of an engine above this stand in a file of their own, which runtimes map: one inside the
# ONNX file is copied while it is parsed, and stays.
MAPPED_BYTES = 8_000_000
# Products outside every plan are warned of from this share of the work on: at the 3 × that an INT8
# GEMM gains, they then take a quarter of the time that is left.
MUCH_OUTSIDE = 0.1


def build_engine(
    model_dir: PathLike,
    engine_dir: PathLike,
    options: BuildOptions | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    **fields: Any,
) -> Built:
    """Build an engine directory; see `qdeploy.api.build`.

    Args:
        options: `measure` is False for one of several candidates, of which the one that is kept is
            measured.
        fields: of the options, by name.
    """
    asked = given_or(BuildOptions, options, fields)
    source, output = Path(model_dir), Path(engine_dir)
    request = Request.of(source, output, asked, force=force)
    observed = _observed(request, progress)
    rows = asked.calibration
    reading = reading_of(source, rows) if observed is None else observed.origin.reading
    sample = None
    if asked.measure and (asked.strategy, request.rest) != (FP32, "f32"):  # that has no noise
        sample = measuring_sample(
            source, observed=observed, reading=reading, max_length=rows.max_length, seed=rows.seed
        )
    with staged(output, "engine", force=force) as work, blaming(source / GRAPH):
        built = _write_engine(work, request, observed, sample, reading, progress)
    warn_of_noise(built["noise"])
    return built


def _observed(request: Request, progress: Progress | None) -> Statistics | None:
    """The statistics that a plan is made from, calibrated here where none were named."""
    rows, found = request.asked.calibration, None
    if needs_statistics(request.asked.strategy):
        if rows.statistics is None:
            path = calibrate_model(
                request.model_dir,
                rows,
                second_moments=request.asked.compensates,
                sensitivity=request.asked.weighs_sites,
                progress=progress,
            )
        else:
            path = Path(rows.statistics)
            _warn_of_unread(data=rows.data, columns=rows.columns, max_length=rows.max_length)
        found = path
    if progress is not None:
        progress("plan", 0, 1)
    statistics = None if found is None else Statistics.load(found)
    if statistics is not None:
        request.check_statistics(statistics)
    return statistics


def _warn_of_unread(**rows: object) -> None:
    """Warn of calibration data that is not looked at, since there are statistics."""
    named = [f"--{name.replace('_', '-')}" for name, value in rows.items() if value is not None]
    if named:
        text = f"--statistics is given: {', '.join(named)} not read."
        warnings.warn(text, QDeployWarning, stacklevel=3)


def _write_engine(
    work: Path,
    request: Request,
    observed: Statistics | None,
    sample: Sample | None,
    reading: ReadingFields | None,
    progress: Progress | None,
) -> Built:
    home, report = request.model_dir, progress or (lambda stage, done, total: None)
    manifest, (model, digest) = read_whole(
        home, lambda: (read_manifest(home, "model"), load_model(home))
    )
    structure = find_structure(model, home / GRAPH)
    if observed is not None:
        observed.require_model(digest)
        observed.require_sites(structure)
    plan, forms = plan_of(request, model, structure, observed)
    plan = request.target.fit(plan, structure)
    report("lower", 0, 1)
    lowered, rewrites, left_out = lower(request, model, plan, structure, manifest)
    report("write", 0, 1)
    write_graph(lowered.model, work / "model.onnx", external_above=MAPPED_BYTES)
    copy_companions(request.model_dir, work, manifest)
    write_json(work / "plan.json", plan.to_json() | rewrites)
    report("certify", 0, 1)
    count = count_products(work / "model.onnx", _probe(request, manifest))
    certificate = expected(plan, structure, lowered, count)
    if not request.target.on_gpu:
        sums = pair_sums(lowered.model)
        certificate["processors"] = processors_of(sums, lowered.widened.values())
    planned = tally(certificate["planned_gemms"], {}, 0.0, certificate["other_products"])
    if request.asked.strategy not in (FP32, FP16):
        _warn_of_unplanned(certificate, planned)
    fields = manifest_fields(manifest, request, digest, observed)
    fields |= {"data": reading, "dry_run": request.asked.dry_run, "noise": None}
    fields |= {"left_out": left_out}
    if forms is not None:
        fields["forms"] = forms
    fields, engine = _compiled(work, request, fields)
    _prove(work, engine, request, fields, certificate)
    last = "certify" if sample is None else "measure"
    if sample is not None:
        report(last, 0, 1)
        fields["noise"] = measure_noise(request.model_dir, work, fields, sample, engine)
    request.target.finish(work, engine)
    write_guides(work, fields, certificate)
    if model_digest(home) != digest:
        raise ModelError(f"{home} was replaced while this was built. Build again.")
    write_manifest(work, "engine", fields)
    report(last, 1, 1)
    return {
        **fields,
        "int8": certificate.get("int8"),
        "compiled": certificate.get("compiled"),
        "plan": summary(plan, planned["planned_share"]),
        "size_mb": size_mb(work),
    }


def _warn_of_unplanned(certificate: Certificate, planned: Tally) -> None:
    """Warn where so much of the work is in products that no plan knows that INT8 helps little."""
    others = certificate["other_products"]
    outside = [entry for entry in planned["unplanned"] if entry["site"] in others]
    share = sum(entry["flops_share"] for entry in outside)
    if share > MUCH_OUTSIDE:
        named = largest_unplanned(outside)
        warnings.warn(
            f"{percent(share)} of the FLOPs of all constant-weight products are in products that "
            f"stay in float whatever the plan: {named}.",
            QDeployWarning,
            stacklevel=4,
        )


def _compiled(
    work: Path, request: Request, fields: EngineFields
) -> tuple[EngineFields, Engine | None]:
    """With what is to be said of its compilation, and the engine where it runs here."""
    if request.asked.dry_run:
        return fields, None
    shape, how = request.asked.shape, request.asked.compilation
    fields = {**fields, **request.target.compile(work, fields, shape, how)}
    return fields, request.target.open_built(work, fields, threads=2)


def _prove(
    work: Path,
    engine: Engine | None,
    request: Request,
    fields: EngineFields,
    certificate: Certificate,
) -> None:
    """Write what the engine is held against elsewhere: its certificate, and rows with outputs."""
    _certify(work, engine, request, fields, certificate)
    write_json(work / CERTIFICATE, certificate)
    if engine is not None:
        store_canary(request.model_dir, work, fields, engine)


def _certify(
    work: Path,
    engine: Engine | None,
    request: Request,
    fields: EngineFields,
    certificate: Certificate,
) -> None:
    """Add what ran, where the engine could be opened, and what a compiler without a device said,
    with an estimate of the engine's time."""
    if engine is not None:
        certificate["int8"] = _certificate(engine, request, fields, certificate)
    planned = certificate["planned_gemms"]
    names = {name: [TraceName(*mark) for mark in gemm["marks"]] for name, gemm in planned.items()}
    found = request.target.compilation(work, fields, names, request.asked.compilation)
    if found is None:
        return
    check = certificate["compiled"] = certify_compiled(found, certificate)
    rows, tokens = request.asked.shape
    shape = (rows, min(tokens, fields["max_length"]))
    if (told := estimates(found.layers, found.capabilities, shape)) is not None:
        fields["estimate"] = told
    if check["fallbacks"]:
        name = eight_bits(request.asked.strategy)
        _warn_of_fallbacks(check, f"were not compiled as {name} by {found.compiler}")


def _probe(request: Request, manifest: Interface) -> dict[str, Array]:
    """Inputs of the shape that the engine is tuned for."""
    rows, tokens = request.asked.shape
    longest = min(tokens, manifest["max_length"])
    return probe_feeds(manifest["inputs"], batch=rows, sequence=longest)


def _certificate(
    engine: Engine, request: Request, manifest: Interface, planned: Certificate
) -> Int8:
    """The certificate of the engine, opened as it will be.

    A target that compiles chooses kernels by their time, and may find that FP16 is the faster one:
    the engine stands, and says so. Elsewhere the lowered graph decides.

    Raises:
        VerificationError: a planned GEMM does not run in 8 bits on a target that has no choice.
    """
    int8 = certify(engine, planned, _probe(request, manifest))
    if not int8["fallbacks"]:
        return int8
    what = f"would not run in {eight_bits(request.asked.strategy)}"
    if not request.target.compiles:
        raise VerificationError(
            f"{_fallbacks(int8, what)} Nothing was written; report this with "
            "the versions that `qdeploy doctor` prints."
        )
    _warn_of_fallbacks(int8, what)
    return int8


def _fallbacks(check: Int8, what: str) -> str:
    worst = check["fallbacks"][0]
    return (
        f"{len(check['fallbacks'])} of {check['planned']} planned GEMMs {what} "
        f"(first: {short_name(worst['site'])}: {worst['reason']})."
    )


def _warn_of_fallbacks(check: Int8, what: str) -> None:
    warnings.warn(
        f"{_fallbacks(check, what)} The certificate names them; `qdeploy eval --require-int8 SHARE`"
        " makes a gate of it.",
        QDeployWarning,
        stacklevel=2,
    )
