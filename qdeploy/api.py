"""The Python form of every command: one function each, and no work of their own.

Every function imports what it needs when it is called, so that `import qdeploy` stays light. All of
them raise the errors of `qdeploy.errors`, also of a full disk and of memory (`MachineError`), and
take `progress`, called as `progress(stage, done, total)` while they work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdeploy.errors import GateError, PlanError, choose
from qdeploy.faults import explained
from qdeploy.remedies import require

if TYPE_CHECKING:
    from qdeploy.data.tasks import Columns
    from qdeploy.evaluate.predictor import Predictor

Progress = Callable[[str, int, int], None]
PathLike = str | Path


@explained()
def export(
    checkpoint: PathLike,
    model_dir: PathLike,
    *,
    force: bool = False,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    task: str | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Export a checkpoint to a model directory with a verified FP32 ONNX graph.

    Args:
        checkpoint: Hugging Face directory, hub id, PEFT adapter directory, or `"embedded"`.
        model_dir: directory to write.
        force: replace `model_dir` when it is one that qdeploy wrote.
        allow_pickle: read weights from pickle files, which can run code.
        trust_remote_code: run modelling code that comes with the checkpoint.
        task: `"sequence-classification"`, `"token-classification"` or `"question-answering"`;
            None takes it from the checkpoint's configuration.
        seed: of the random inputs of the verification.
        progress: see the module.

    Returns:
        The manifest of the model directory; `verification.max_abs_diff` is against torch, and
        `max_rel_diff` the same over the largest output.

    Raises:
        CheckpointError: the checkpoint cannot be exported.
        VerificationError: the graph's logits differ from torch's by more than FP32 rounding
            explains.
        OutputError: `model_dir` exists or cannot be written.
    """
    from qdeploy.models import embedded
    from qdeploy.publish import check_apart, check_output

    require("torch", "transformers")
    # before the seconds that PyTorch takes
    check_apart(Path(model_dir), [] if str(checkpoint) == embedded.NAME else [Path(checkpoint)])
    check_output(Path(model_dir), "model", force=force)
    Path.cwd()  # where it was removed, torch's import would end the process without a word of ours
    if progress is not None:
        progress("load PyTorch", 0, 1)  # seconds, and no word of it
    from qdeploy.exporter.export import export_checkpoint

    return export_checkpoint(
        checkpoint,
        model_dir,
        force=force,
        allow_pickle=allow_pickle,
        trust_remote_code=trust_remote_code,
        task=task,
        seed=seed,
        progress=progress,
    )


@explained()
def calibrate(
    model_dir: PathLike,
    *,
    data: str | None = None,
    task: str = "auto",
    columns: Columns | str | None = None,
    rows: int = 128,
    max_length: int | None = None,
    seed: int = 0,
    ray_address: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Observe a model on calibration rows in one streaming pass.

    Args:
        model_dir: model directory.
        data: file, directory or hub data set; None takes what the model was calibrated on last,
            or else `"qnli-mini"`, and warns.
        task: a name of `qdeploy.data.TASKS`: which columns hold the text of `data`; "auto" takes
            it from the names of the columns and the classes of the model.
        columns: column names of `data`, as `Columns` or as `"question=premise"`.
        rows: rows to sample from `data`.
        max_length: tokens kept of a row; None is the model's own limit, at most 512.
        seed: of the sample.
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
    from qdeploy.calibrate.run import calibrate_model

    sharded = {}
    if ray_address is not None:
        from qdeploy.sweep.connection import Connection
        from qdeploy.sweep.shards import observer_on

        sharded = {"observer": observer_on(Connection(ray_address))}
    return calibrate_model(
        model_dir,
        data=data,
        task=task,
        columns=columns,
        rows=rows,
        max_length=max_length,
        seed=seed,
        progress=progress,
        **sharded,
    )


@explained()
def analyze(
    model_dir: PathLike,
    *,
    data: str | None = None,
    task: str = "auto",
    columns: Columns | str | None = None,
    calibration_rows: int = 128,
    max_length: int | None = None,
    statistics: PathLike | None = None,
    scope: str = "gemm",
    activations: str = "asymmetric",
    cost_rows: int = 32,
    seconds: float = 120.0,
    html: PathLike | None = None,
    plot: PathLike | None = None,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Find the sites and channels that spoil INT8, and say what mends them and what to build.

    Args:
        model_dir: model directory.
        data: calibration data; None takes what the model was calibrated on last, or else
            `"qnli-mini"`, and warns.
        task: a name of `qdeploy.data.TASKS`: which columns hold the text of `data`; "auto" takes
            it from the names of the columns and the classes of the model.
        columns: column names of `data`, as `Columns` or as `"question=premise"`.
        calibration_rows: rows to sample from `data`.
        max_length: tokens kept of a row; None is the model's own limit, at most 512.
        statistics: statistics of this model to use instead of calibrating.
        scope: sites to look at: `"gemm"` (those that `build` rounds by default) or `"all"` (every
            activation).
        activations: `"asymmetric"` (uint8) or `"symmetric"` (int8).
        cost_rows: rows of `data` on which each site's cost is measured; 0 measures none.
        seconds: after so long no further site's cost is measured; the report names what was left
            out (`left_out`). Whole plans are measured in any case.
        html: file for the report as one self-contained page.
        plot: folder for the pictures as PNGs.
        threads: sites that are measured side by side, one thread each; None takes the cores that
            the process may use.
        seed: of the samples.
        progress: see the module.

    Returns:
        The report, as in docs/files.md.

    Raises:
        ModelError, StatisticsError, DataError, PlanError, OutputError: see `qdeploy.errors`.
    """
    from qdeploy.analyze.run import analyze_model
    from qdeploy.report.outputs import Outputs

    outputs = Outputs(html=_path(html), plot=_path(plot), given=(model_dir, data, statistics))
    report = analyze_model(
        model_dir,
        data=data,
        task=task,
        columns=columns,
        calibration_rows=calibration_rows,
        max_length=max_length,
        statistics=statistics,
        scope=scope,
        activations=activations,
        cost_rows=cost_rows,
        seconds=seconds,
        threads=threads,
        seed=seed,
        progress=progress,
    )
    outputs.write(report)
    return report


@explained()
def build(
    model_dir: PathLike,
    engine_dir: PathLike,
    *,
    strategy: str = "peg",
    target: str = "ort-cpu",
    rest_precision: str | None = None,
    opt_shape: str = "8x128",
    data: str | None = None,
    task: str = "auto",
    columns: Columns | str | None = None,
    calibration_rows: int = 128,
    max_length: int | None = None,
    statistics: PathLike | None = None,
    scope: str = "gemm",
    activations: str | None = None,
    weights: str = "per-channel",
    grouping: str = "optimal",
    groups: int | str = "auto",
    outlier_channels: int | str | None = None,
    prescale: str | None = None,
    percentile: float = 99.99,
    mixed: str = "ffn",
    alpha: float | str = "auto",
    noise_target: float = 30.0,
    float_sites: Sequence[str] | str = "",
    int8_residuals: bool = False,
    min_shape: str | None = None,
    max_shape: str | None = None,
    workspace_mb: int | None = None,
    timing_cache: PathLike | None = None,
    version_compatible: bool = False,
    refit: bool = False,
    cuda_graph: bool = True,
    max_drop: float | None = None,
    measure: bool = True,
    seed: int = 0,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Build an engine directory: statistics → plan → graph of the target → engine.

    Args:
        model_dir: model directory.
        engine_dir: directory to write.
        strategy: one of `qdeploy.calibrate.strategies.STRATEGIES`, or `"auto"`: tries
            several plans on rows of `data` that calibrated nothing. It keeps the one with the
            highest SQNR of the logits among those that hold `max_drop` and are within 3 % of the
            fastest of them.
        target: one of `qdeploy.deploy.targets.TARGETS`, or `"auto"`: builds for every one that
            works here, times them, and keeps the fastest.
        rest_precision: of what is not INT8: `"f32"`, or `"bf16"` where the target has it; None
            takes the target's own.
        opt_shape: rows and tokens of the runs that the engine is tuned for; every shape works.
        data: calibration data; None takes what the model was calibrated on last, or else
            `"qnli-mini"`, and warns.
        task: a name of `qdeploy.data.TASKS`: which columns hold the text of `data`; "auto" takes
            it from the names of the columns and the classes of the model.
        columns: column names of `data`, as `Columns` or as `"question=premise"`.
        calibration_rows: rows to sample from `data`.
        max_length: tokens kept of a row; None is the model's own limit, at most 512.
        statistics: statistics of this model to use instead of calibrating.
        scope: `"gemm"` or `"all"` (every activation).
        activations: `"asymmetric"` (uint8) or `"symmetric"` (int8); None takes the target's.
        weights: `"per-channel"` or `"per-tensor"`, int8 symmetric.
        grouping: how `peg` cuts channels: `"optimal"`, `"sorted"` or `"contiguous"`.
        groups: number of groups of `peg`, or `"auto"`.
        outlier_channels: channels per site that `peg` keeps in float, `"auto"` or `"none"`; None is
            `"auto"` with automatic groups and `"none"` where their number is given.
        prescale: GEMM inputs that `peg` scales by channel in front of one scale: `"none"`,
            `"folded"` (where the factors become part of weights before) or `"everywhere"`, where it
            helps; None is where it costs nothing on the target with automatic groups and scope
            gemm, and `"none"` otherwise.
        percentile: of the strategy `percentile`, two-sided, in percent.
        mixed: which sites `mixed` keeps in float: `"ffn"` (FFN input and output, residual sum) or
            `"auto"` (the noisiest).
        alpha: of `smoothquant`, 0 to 1, or `"auto"` (the best of a grid, site by site).
        noise_target: of `peg`: dB below a GEMM's output where the noise of its input is quiet.
        float_sites: names of sites that stay in float, as a list or with commas.
        int8_residuals: tensorrt: round the skip branch of residual sums too, so that the sum can
            run in INT8.
        min_shape, max_shape: of targets that compile: rows and tokens of the smallest and the
            largest run; None is 1x2, and 32 rows (or those of `opt_shape`) of full length.
        workspace_mb: of targets that compile: scratch memory of kernels, 10⁶ bytes.
        timing_cache: of targets that compile: file that keeps the timings of kernels.
        version_compatible: tensorrt: the engine runs under later versions too.
        refit: tensorrt: the engine's weights can be replaced.
        cuda_graph: tensorrt: launch a run as one CUDA graph; the report says which it was.
        max_drop: of the strategy `auto`: accuracy points that may be lost; None is 0.3.
        measure: hold the engine against FP32 on 32 calibration rows, and warn below 15 dB of logit
            SQNR.
        seed: of the calibration sample.
        force: replace `engine_dir` when it is one that qdeploy wrote.
        dry_run: stop after lowering; the ONNX file is written, nothing is compiled.
        progress: see the module.

    Returns:
        The manifest of the engine directory, and `label_fault`: why the labels of `data` are no
        classes of the model, or None.

    Raises:
        GateError: no plan holds `max_drop`; its attribute `report` is what was tried.
        ModelError, StatisticsError, PlanError, TargetError, DataError, OutputError: see
            `qdeploy.errors`.
    """
    from qdeploy.calibrate.strategies import STRATEGY_NAMES
    from qdeploy.data.infer import check_task

    choose("strategy", strategy, STRATEGY_NAMES, PlanError)
    check_task(task)
    if max_drop is not None and strategy != "auto":
        raise PlanError("--max-drop of build is for --strategy auto; `qdeploy eval` has one too.")
    options: dict[str, Any] = {
        "rest_precision": rest_precision,
        "opt_shape": opt_shape,
        "data": data,
        "task": task,
        "columns": columns,
        "calibration_rows": calibration_rows,
        "max_length": max_length,
        "statistics": statistics,
        "scope": scope,
        "activations": activations,
        "weights": weights,
        "grouping": grouping,
        "groups": groups,
        "outlier_channels": outlier_channels,
        "prescale": prescale,
        "percentile": percentile,
        "mixed": mixed,
        "alpha": alpha,
        "noise_target": noise_target,
        "float_sites": float_sites,
        "int8_residuals": int8_residuals,
        "min_shape": min_shape,
        "max_shape": max_shape,
        "workspace_mb": workspace_mb,
        "timing_cache": timing_cache,
        "version_compatible": version_compatible,
        "refit": refit,
        "cuda_graph": cuda_graph,
        "measure": measure,
        "seed": seed,
        "force": force,
        "dry_run": dry_run,
        "progress": progress,
    }
    from qdeploy.label_fit import label_fault

    if strategy == "auto":
        from qdeploy.search import build_within

        built = build_within(model_dir, engine_dir, target=target, max_drop=max_drop, **options)
    elif target == "auto":
        from qdeploy.auto import build_fastest

        built = build_fastest(model_dir, engine_dir, strategy=strategy, **options)
    else:
        from qdeploy.deploy.build import build_engine
        from qdeploy.measured import build_measured, measures

        make = build_measured if measures(target, strategy, options) else build_engine
        built = make(model_dir, engine_dir, strategy=strategy, target=target, **options)
    return built | {"label_fault": label_fault(engine_dir, built)}


@explained()
def evaluate(
    engine_dir: PathLike,
    *,
    task: str = "auto",
    data: str | None = None,
    columns: Columns | str | None = None,
    baseline: PathLike | None = None,
    model: PathLike | None = None,
    limit: int | None = None,
    max_length: int | None = None,
    batch_size: int = 8,
    seq_len: int | None = None,
    warmup: int | None = None,
    iterations: int | None = None,
    seconds: float | None = None,
    threads: int | None = None,
    latency: bool = True,
    own_lengths: bool = True,
    accuracy: bool = True,
    seed: int = 0,
    max_drop: float | None = None,
    require_int8: float | None = None,
    simulate: bool = False,
    html: PathLike | None = None,
    card: PathLike | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure an engine: accuracy, latency, memory, size and its INT8 kernels.

    Args:
        engine_dir: engine directory.
        task: a name of `qdeploy.data.TASKS`; "auto" takes it as when the engine was built, or from
            the names of the columns and the classes of the model.
        data: evaluation data; None takes what the engine was built with, less the rows that
            calibrated it, or else `"qnli-mini"`.
        columns: column names of `data`, as `Columns` or as `"question=premise,label=gold"`.
        baseline: engine directory to compare with; rounds of the two alternate. `"fp32"` and
            `"fp16"` are built from the engine's model, beside the engine, where they are not there.
        model: model directory to build such a baseline from; None looks beside the engine and in
            the current directory.
        limit: rows to take from the start; None takes all.
        max_length: tokens kept of a row for accuracy; None is the model's own limit, at most 512.
        batch_size: rows per run, of the latency and of the accuracy.
        seq_len: tokens per row of the latency, of it alone; None is 128, or what the engine takes
            where that is less.
        warmup: runs of each engine before the timed ones, exactly so many; None is at most 100,
            as `seconds` allow.
        iterations: timed runs of each engine, exactly so many, however long they take; None is at
            most 500, as `seconds` allow, and at least 6.
        seconds: for all timed runs of the engine and its baseline; None is 30.
        threads: threads the engine may use; None takes the cores that the process may use.
        latency: False leaves the latency out.
        own_lengths: False times the fixed shape alone, and no batches of the data's own lengths.
        accuracy: False leaves the accuracy out.
        seed: of the latency's inputs and of the bootstrap.
        max_drop: gate: most accuracy points that may be lost against `baseline`.
        require_int8: gate: least share (0 to 1) of the FLOPs of all constant-weight products,
            planned or not, that must run in INT8.
        simulate: run the graph of a `--dry-run` on the CPU, for its accuracy alone.
        html: file for the report as one self-contained page.
        card: file for a model card (Markdown) to publish with the engine.
        progress: see the module.

    Returns:
        The report, as in docs/files.md.

    Raises:
        GateError: a gate was not met; its attribute `report` is the report.
        PlanError, DataError, ModelError, TargetError, VerificationError: see `qdeploy.errors`.
    """
    from qdeploy.evaluate.run import evaluate_engine
    from qdeploy.report.outputs import Outputs

    given = (engine_dir, data, baseline, model)
    outputs = Outputs(html=_path(html), card=_path(card), given=given)
    if baseline is not None:
        from qdeploy.baseline import find_baseline

        baseline = find_baseline(engine_dir, baseline, model=model, progress=progress)
    try:
        report = evaluate_engine(
            engine_dir,
            task=task,
            data=data,
            columns=columns,
            baseline=baseline,
            limit=limit,
            max_length=max_length,
            batch_size=batch_size,
            seq_len=seq_len,
            warmup=warmup,
            iterations=iterations,
            seconds=seconds,
            threads=threads,
            latency=latency,
            own_lengths=own_lengths,
            accuracy=accuracy,
            seed=seed,
            max_drop=max_drop,
            require_int8=require_int8,
            simulate=simulate,
            progress=progress,
        )
    except GateError as error:  # a failed gate is a result too
        outputs.write(error.report)
        raise
    outputs.write(report)
    return report


def _path(path: PathLike | None) -> Path | None:
    return None if path is None else Path(path)


@explained()
def sweep(
    model: PathLike,
    sweep_dir: PathLike,
    *,
    recipe: PathLike,
    data: str | None = None,
    eval_data: str | None = None,
    max_length: int | None = None,
    max_drop: float | None = None,
    ray_address: str | None = None,
    html: PathLike | None = None,
    plot: PathLike | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Build many engines of one model from one set of statistics, measure and compare them.

    Args:
        model: model directory, or any checkpoint that `export` takes.
        sweep_dir: folder that keeps every trial; a sweep that stands there goes on.
        recipe: YAML file of the trials (docs/sweeps.md).
        data: calibration rows, and evaluation rows where it holds both; None takes `"qnli-mini"`.
        eval_data: evaluation rows from elsewhere.
        max_length: tokens kept of a row, calibrating or evaluated; None takes the recipe's, or the
            model's own limit, at most 512.
        max_drop: accuracy points that may be lost: the fastest engine within them is named.
        ray_address: of a Ray cluster to run the trials on, or `"auto"`; None runs them here.
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

    given = (model, sweep_dir, recipe, data, eval_data)
    outputs = Outputs(html=_path(html), plot=_path(plot), made=Path(sweep_dir), given=given)
    result = run_sweep(
        model,
        sweep_dir,
        recipe=recipe,
        data=data,
        eval_data=eval_data,
        max_length=max_length,
        max_drop=max_drop,
        ray_address=ray_address,
        progress=progress,
    )
    outputs.write(result)
    if max_drop is not None and result["cheapest"] is None:
        raise GateError(f"No engine of the sweep holds --max-drop {max_drop:g}.", result)
    return result


@explained()
def load(engine_dir: PathLike, *, threads: int | None = None, verify: str = "sha256") -> Predictor:
    """Load an engine for prediction: `load(engine_dir).predict([(question, sentence), ...])`.

    Args:
        engine_dir: engine directory.
        threads: threads the engine may use; None takes the cores that the process may use.
        verify: how its files are held against its qdeploy.json: `"sha256"` reads them once more,
            `"stat"` compares their sizes alone, for callers who cannot wait.

    Raises:
        ModelError: not an engine directory, or its files are not those of its qdeploy.json.
        TargetError: its target does not work on this machine.
        PlanError: `threads` or `verify` that is none.
    """
    from qdeploy.evaluate.predictor import Predictor

    return Predictor(engine_dir, threads=threads, verify=verify)


@explained()
def predict_file(
    engine_dir: PathLike,
    file: PathLike = "-",
    *,
    out: PathLike | None = None,
    format: str | None = None,
    output_format: str = "jsonl",
    columns: str | None = None,
    keep: str | None = None,
    logits: bool = False,
    batch_size: int = 8,
    max_length: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Answer every row of a file or of standard input, block by block, in the order given.

    Memory does not grow with the rows. docs/predict.md says what is answered for each head.

    Args:
        engine_dir: engine directory.
        file: CSV, TSV, JSONL, text (a row a line) or Parquet file; `"-"` is standard input.
        out: file for the answers, written whole or not at all; None or `"-"` is standard output,
            where they appear as they are made.
        format: `"csv"`, `"tsv"`, `"jsonl"`, `"text"` or `"parquet"`; None goes by the suffix, and
            is JSONL for standard input.
        output_format: `"jsonl"` or `"csv"`.
        columns: column of the text, `"text"`, or those of a pair, `"question,sentence"`; None
            takes columns with usual names.
        keep: columns of the input that go with the answers, with commas, or `"all"`; one with the
            name of an answer's field is called `input_NAME`.
        logits: put the raw outputs beside the answers.
        batch_size: rows per run; fewer where they are long.
        max_length: tokens kept of a row; None is what the model takes.
        threads: threads the engine may use; None takes the cores that the process may use.
        progress: see the module.

    Returns:
        How many `rows` were read, with the number of each label in `answers`, how many are
        `unanswered` (they have no text, and null for an answer; a warning names the first) or
        `truncated`, `seconds` and `rows_per_s`, `threads`, and where the answers stand (`out`).

    Raises:
        DataError: rows that cannot be read or answered; the text names the line, and says what was
            answered before it.
        PlanError: question answering without `logits`, or an option that cannot be followed.
        ModelError, TargetError, OutputError, VerificationError: see `qdeploy.errors`.
    """
    from qdeploy.evaluate.predict_file import predict_file as answer

    return answer(
        engine_dir,
        file,
        out=out,
        format=format,
        output_format=output_format,
        columns=columns,
        keep=keep,
        logits=logits,
        batch_size=batch_size,
        max_length=max_length,
        threads=threads,
        progress=progress,
    )


@explained()
def inspect(
    path: PathLike, *, target: str | None = None, require_int8: float | None = None
) -> dict[str, Any]:
    """Describe a model directory, an engine directory (plan and certificate) or an ONNX file.

    Args:
        path: what to look at.
        target: of a file: whose rules it is held against; None asks ONNX Runtime's CPU provider
            for its kernels.
        require_int8: gate: least share (0 to 1) of the FLOPs of all constant-weight products,
            planned or not, that must run in INT8.

    Raises:
        GateError: a rule of the target is broken, or `require_int8` is not reached; its attribute
            `report` is the description.
        ModelError: nothing of the three.
        TargetError: a target that has no rules for files.
        PlanError: `require_int8` of something that ran no kernel.
    """
    from qdeploy.deploy.inspect import inspect_path

    return inspect_path(path, target, require_int8=require_int8)


@explained()
def doctor() -> dict[str, Any]:
    """Say which targets work on this machine, and for each other one the reason and the remedy."""
    from qdeploy.deploy.doctor import diagnose

    return diagnose()


@explained()
def demo(
    directory: PathLike = "demo",
    *,
    force: bool = False,
    threads: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
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
    require("torch", "transformers", "peft")
    from qdeploy.demo import run_demo

    return run_demo(directory, force=force, threads=threads, seed=seed, progress=progress)
