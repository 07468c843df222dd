"""`qdeploy build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qdeploy import api
from qdeploy.cli import options, tables, talk
from qdeploy.kept import note


@click.command()
@click.argument("model_dir", type=options.PATH)
@click.argument("engine_dir", type=options.PATH)
@click.option(
    "--strategy",
    cls=options.NamesOption,
    names="qdeploy.calibrate.strategies:STRATEGY_NAMES",
    default="peg",
    show_default=True,
    help="How activations are quantized: docs/strategies.md. auto tries them all, and keeps the"
    " fastest that holds --max-drop.",
)
@click.option(
    "--target",
    cls=options.NamesOption,
    names="qdeploy.deploy.targets:TARGET_NAMES",
    default="ort-cpu",
    show_default=True,
    help="What the engine runs on: docs/targets.md. auto keeps the fastest that works here.",
)
@click.option(
    "--rest-precision",
    metavar="[f32|bf16|f16]",
    help="Precision of what is not INT8, where a target has several. Its own when left out.",
)
@click.option(
    "--opt-shape",
    default="8x128",
    show_default=True,
    metavar="ROWSxTOKENS",
    help="Shape of the runs that the engine is tuned for; it takes every other shape too.",
)
@options.calibration_data
@options.task
@options.columns
@options.calibration_rows
@options.max_length
@options.statistics
@options.scope("gemm")
@options.activations
@click.option(
    "--weights",
    cls=options.NamesOption,
    names="qdeploy.calibrate.options:WEIGHTS",
    default="per-channel",
    show_default=True,
    help="Scales of the int8 weights.",
)
@click.option(
    "--grouping",
    cls=options.NamesOption,
    names="qdeploy.calibrate.grouping:GROUPINGS",
    default="optimal",
    show_default=True,
    help="peg: how channels are cut into groups.",
)
@click.option(
    "--groups",
    type=options.NumberOrWord(int),
    default="auto",
    show_default=True,
    metavar="[K|auto]",
    help="peg: groups of channels per site; auto takes what the noise asks for.",
)
@click.option(
    "--outlier-channels",
    type=options.NumberOrWord(int),
    metavar="[N|auto|none]",
    help="peg: channels per GEMM input that stay in floating point. When left out: auto with"
    " automatic groups, none where --groups is a number.",
)
@click.option(
    "--prescale",
    cls=options.NamesOption,
    names="qdeploy.calibrate.options:PRESCALES",
    help="peg: GEMM inputs that are scaled by channel in front of one scale where that helps;"
    " folded is where the factors become part of weights before. Scope gemm only. When left out:"
    " where it costs nothing on the target with automatic groups, none where --groups is a number.",
)
@click.option(
    "--percentile",
    type=float,
    default=99.99,
    show_default=True,
    metavar="P",
    help="percentile: percent of the values kept on each side.",
)
@click.option(
    "--mixed",
    cls=options.NamesOption,
    names="qdeploy.calibrate.options:MIXED_SETS",
    default="ffn",
    show_default=True,
    help="mixed: sites in float; ffn is FFN input, FFN output and residual sum, auto the noisiest.",
)
@click.option(
    "--alpha",
    type=options.NumberOrWord(float),
    default="auto",
    show_default=True,
    metavar="[A|auto]",
    help="smoothquant: 0 to 1, how much of the range moves from activations into weights.",
)
@click.option(
    "--noise-target",
    type=float,
    default=30.0,
    show_default=True,
    metavar="DB",
    help="peg: a GEMM input whose rounding noise is less than this below the output is treated.",
)
@click.option(
    "--float-sites",
    default="",
    metavar="NAME,...",
    help="Sites that stay in float, with the GEMMs that read them; `qdeploy analyze` names them.",
)
@click.option(
    "--int8-residuals",
    is_flag=True,
    help="tensorrt: round the skip branch of residual sums too, so that the sum can run in INT8.",
)
@click.option(
    "--min-shape",
    metavar="ROWSxTOKENS",
    help="Targets that compile: the smallest run; 1x2 when left out.",
)
@click.option(
    "--max-shape",
    metavar="ROWSxTOKENS",
    help="Targets that compile: the largest run; 32 rows of full length when left out.",
)
@click.option(
    "--workspace-mb",
    type=click.IntRange(min=1),
    metavar="MB",
    help="Targets that compile: scratch memory that kernels may use; all there is when left out.",
)
@click.option(
    "--timing-cache",
    type=options.PATH,
    metavar="FILE",
    help="Targets that compile: keeps the timings of kernels from build to build.",
)
@click.option(
    "--version-compatible", is_flag=True, help="tensorrt: the engine runs under later versions too."
)
@click.option("--refit", is_flag=True, help="tensorrt: the engine's weights can be replaced.")
@click.option(
    "--cuda-graph/--no-cuda-graph",
    default=True,
    show_default=True,
    help="tensorrt: launch a run as one CUDA graph.",
)
@click.option(
    "--max-drop",
    type=float,
    metavar="POINTS",
    help="auto: accuracy points that may be lost; 0.3 when left out.",
)
@click.option(
    "--measure/--no-measure",
    default=True,
    show_default=True,
    help="Hold the engine against FP32 on 32 calibration rows; warn of logits that are too noisy.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Stop after lowering; the ONNX file is written, nothing is compiled.",
)
@options.seed
@options.force
@options.reporting
def build(model_dir: Path, engine_dir: Path, **settings: Any) -> None:
    """Quantize a model and build its engine.

    MODEL_DIR comes from `qdeploy export`; ENGINE_DIR is written and stands alone.
    Calibrates first when no statistics of these rows exist.
    """
    # `settings` holds the options above under the names of `api.build`; a test compares the two.
    with talk.progress() as progress:
        result = api.build(model_dir, engine_dir, progress=progress, **settings)
    note("output", f"{engine_dir} was written")
    talk.report(result, lambda engine: tables.engine(engine, engine_dir))
