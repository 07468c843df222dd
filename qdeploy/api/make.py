"""The commands that make something: a model, statistics, an analysis, engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.analyze.options import AnalyzeOptions
from qdeploy.bundles.options import BundleOptions
from qdeploy.calibrate.options import CalibrationOptions
from qdeploy.deploy.options import BuildOptions
from qdeploy.errors import GateError
from qdeploy.exporter.options import ExportOptions
from qdeploy.machine.faults import explained
from qdeploy.options import documented, given_or
from qdeploy.sweep.options import SweepOptions
from qdeploy.types import PathLike, Progress, as_path

if TYPE_CHECKING:
    from qdeploy.schemas.analysis import Analysis
    from qdeploy.schemas.built import BuiltForRows, Bundled
    from qdeploy.schemas.demo import Demo
    from qdeploy.schemas.manifest import ModelManifest
    from qdeploy.schemas.sweep import SweepResult


@explained()
@documented(ExportOptions)
def export(
    checkpoint: PathLike,
    model_dir: PathLike,
    options: ExportOptions | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    **fields: object,
) -> ModelManifest:
    """Export a checkpoint, or an ONNX file, to a model directory with a verified FP32 ONNX graph.

    Args:
        checkpoint: Hugging Face or sentence-transformers directory, hub id, PEFT adapter directory,
            or `"embedded"`; or an ONNX file of a fine-tuned encoder, or a directory that has one
            in the place of weights (`model.onnx`, `onnx/model.onnx`).
        model_dir: directory to write.
        options: see below; each may be a keyword instead.
        force: replace `model_dir` when it is one that qdeploy wrote.
        progress: see the module.

    Returns:
        The manifest of the model directory; `verification.max_abs_diff` is against torch, or
            against the ONNX file, and `max_rel_diff` the same over the largest output.

    Raises:
        CheckpointError: the checkpoint or the ONNX file cannot be exported.
        ModelError: the ONNX file breaks a rule of ONNX.
        VerificationError: the graph's logits differ from torch's, or the file's, by more than FP32
            rounding explains.
        OutputError: `model_dir` exists or cannot be written.
    """
    from qdeploy.exporter.entry import export_model

    return export_model(checkpoint, model_dir, options, force=force, progress=progress, **fields)


@explained()
@documented(CalibrationOptions, omit=("statistics",))
def calibrate(
    model_dir: PathLike,
    options: CalibrationOptions | None = None,
    *,
    second_moments: bool = False,
    sensitivity: bool = False,
    ray_address: str | None = None,
    progress: Progress | None = None,
    **fields: object,
) -> Path:
    """Observe a model on calibration rows in one streaming pass.

    Args:
        model_dir: model directory.
        options: see below; each may be a keyword instead.
        second_moments: gather the second moments of GEMM inputs too, FP32 [C, C] each, for
            `build(weight_rounding="compensated")`.
        sensitivity: measure how much of each GEMM input's noise comes out of the model, for
            `build(sensitivity=True)`: one run of some dozens of rows for each, on this machine.
        ray_address: address of a Ray cluster, or `"auto"`: its nodes observe a shard each.
        progress: see the module.

    Returns:
        Path of the statistics file. The same model, data, rows, limit and seed give the same
            file.

    Raises:
        ModelError: not a model directory.
        DataError: rows that cannot be read.
        TargetError: no cluster answers at `ray_address`.
    """
    from qdeploy.calibrate.observe import Observer, observe_directory
    from qdeploy.calibrate.run import calibrate_model

    observer: Observer = observe_directory
    if ray_address is not None:
        from qdeploy.sweep.connection import Connection
        from qdeploy.sweep.shards import observer_on

        observer = observer_on(Connection(ray_address))
    return calibrate_model(
        model_dir,
        options,
        second_moments=second_moments,
        sensitivity=sensitivity,
        progress=progress,
        observer=observer,
        **fields,
    )


@explained()
@documented(AnalyzeOptions)
def analyze(
    model_dir: PathLike,
    options: AnalyzeOptions | None = None,
    *,
    html: PathLike | None = None,
    plot: PathLike | None = None,
    progress: Progress | None = None,
    **fields: object,
) -> Analysis:
    """Find the sites and channels that spoil INT8, and say what mends them and what to build.

    Args:
        model_dir: model directory.
        options: see below; each may be a keyword instead.
        html: file for the report as one self-contained page.
        plot: folder for the pictures as PNGs.
        progress: see the module.

    Returns:
        The report, as in docs/files.md.

    Raises:
        ModelError, StatisticsError, DataError, PlanError, OutputError: see `qdeploy.errors`.
    """
    from qdeploy.analyze.run import analyze_model
    from qdeploy.report.outputs import Outputs

    asked = given_or(AnalyzeOptions, options, fields)
    read = (model_dir, asked.calibration.data, asked.calibration.statistics)
    outputs = Outputs(html=as_path(html), plot=as_path(plot), given=read)
    report = analyze_model(model_dir, asked, progress=progress)
    outputs.write(report)
    return report


@explained()
@documented(BuildOptions)
def build(
    model_dir: PathLike,
    engine_dir: PathLike,
    options: BuildOptions | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
    **fields: object,
) -> BuiltForRows:
    """Build an engine directory: statistics → plan → graph of the target → engine.

    Args:
        model_dir: model directory.
        engine_dir: directory to write.
        options: see below; each may be a keyword instead.
        force: replace `engine_dir` when it is one that qdeploy wrote.
        progress: see the module.

    Returns:
        The manifest of the engine directory, and `label_fault`: why the labels of `data` are no
        classes of the model, or None.

    Raises:
        GateError: no plan holds `max_drop`; its attribute `report` is what was tried.
        ModelError, StatisticsError, PlanError, TargetError, DataError, OutputError: see
            `qdeploy.errors`.
    """
    from qdeploy.autotune.build import build_one

    return build_one(model_dir, engine_dir, options, force=force, progress=progress, **fields)


@explained()
@documented(BundleOptions)
def bundle(
    engine_dir: PathLike,
    out: PathLike,
    options: BundleOptions | None = None,
    *,
    force: bool = False,
    **fields: object,
) -> Bundled:
    """Lay an engine out for what serves it: a directory that another library loads as it is.

    Args:
        engine_dir: engine directory.
        out: directory to write.
        options: see below; each may be a keyword instead.
        force: replace `out` when it is a bundle that qdeploy wrote.

    Returns:
        What was written; `use` is a command or a program that loads it.

    Raises:
        ModelError: not an engine directory.
        PlanError: the format does not take this head or this target.
        OutputError: `out` exists or cannot be written.
    """
    from qdeploy.bundles.run import bundle_engine

    return bundle_engine(engine_dir, out, options, force=force, **fields)


@explained()
@documented(SweepOptions)
def sweep(
    model: PathLike,
    sweep_dir: PathLike,
    options: SweepOptions | None = None,
    *,
    recipe: PathLike,
    html: PathLike | None = None,
    plot: PathLike | None = None,
    progress: Progress | None = None,
    **fields: object,
) -> SweepResult:
    """Build many engines of one model from one set of statistics, measure and compare them.

    Args:
        model: model directory, or any checkpoint that `export` takes.
        sweep_dir: folder that keeps every trial; a sweep that stands there goes on.
        options: see below; each may be a keyword instead.
        recipe: YAML file of the trials (docs/sweeps.md).
        html: file for the report as one self-contained page.
        plot: folder for the chart as a PNG.
        progress: see the module.

    Returns:
        What sweep.json holds, as in docs/files.md; a failed trial has its `error`.

    Raises:
        GateError: no engine holds `max_drop`; its attribute `report` is the result.
        PlanError, ModelError, DataError, TargetError, OutputError: see `qdeploy.errors`.
    """
    from qdeploy.report.outputs import Outputs
    from qdeploy.sweep.run import run_sweep

    asked = given_or(SweepOptions, options, fields)
    read = (model, sweep_dir, recipe, asked.data, asked.eval_data)
    outputs = Outputs(html=as_path(html), plot=as_path(plot), made=Path(sweep_dir), given=read)
    result = run_sweep(model, sweep_dir, recipe, asked, progress=progress)
    outputs.write(result)
    if asked.max_drop is not None and result["cheapest"] is None:
        raise GateError(f"No engine of the sweep holds --max-drop {asked.max_drop:g}.", result)
    return result


@explained()
def demo(
    directory: PathLike = "demo",
    *,
    force: bool = False,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Demo:
    """Run the whole path on the embedded checkpoint and compare the strategies.

    Args:
        directory: where the model and the engines go.
        force: replace the engines of an earlier demo.
        threads: threads the engines may use; None takes the cores that the process may use.
        seed: of the calibration sample.
        progress: see the module.

    Returns:
        What report.json of the demo holds, as in docs/files.md: `rows` (one per engine),
            `sentences` (what to ship and why) and `seconds`, among others.

    Raises:
        OutputError: `directory` exists or cannot be written.
    """
    from qdeploy.machine.remedies import require

    require("torch", "transformers", "peft")
    from qdeploy.demo import run_demo

    return run_demo(directory, force=force, threads=threads, seed=seed, progress=progress)
