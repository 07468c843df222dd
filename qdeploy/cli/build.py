"""`qdeploy build`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qdeploy import api
from qdeploy.cli import built, options, sections, talk
from qdeploy.cli.values import COUNT, POINTS, Number
from qdeploy.kept import note

# Headings of `build --help`; a test holds those of targets against what the targets take.
ENGINE = "What to build"
PEG = "Only with --strategy peg"
OTHERS = "Only with another --strategy, named first"
BUILDER = "Only with --target tensorrt or ort-tensorrt"
TENSORRT = "Only with --target tensorrt"
# as in `qdeploy.calibrate.options`, which a test compares
_WHY_GROUPS = "Each group is a product of its own: more of them cost time and mend nothing."


@sections.command()
@click.argument("model_dir", type=options.PATH)
@click.argument("engine_dir", type=options.PATH)
@sections.option(
    "--strategy",
    group=ENGINE,
    cls=options.NamesOption,
    names="qdeploy.calibrate.strategies:STRATEGY_NAMES",
    default="peg",
    show_default=True,
    help="How activations are quantized: docs/strategies.md. auto tries several: of those that hold"
    " --max-drop and are within 3 % of the fastest, it keeps the highest SQNR of the logits.",
)
@sections.option(
    "--target",
    group=ENGINE,
    cls=options.NamesOption,
    names="qdeploy.deploy.targets:TARGET_NAMES",
    default="ort-cpu",
    show_default=True,
    help="What the engine runs on: docs/targets.md. auto keeps the fastest that works here.",
)
@sections.option(
    "--opt-shape",
    group=ENGINE,
    default="8x128",
    show_default=True,
    metavar="ROWSxTOKENS",
    help="Shape of the runs that the engine is tuned for; it takes every other shape too.",
)
@sections.option(
    "--rest-precision",
    group=ENGINE,
    cls=options.NamesOption,
    names="qdeploy.deploy.targets:REST_PRECISIONS",
    help="Precision of what is not INT8, where a target has several. Its own when left out.",
)
@options.calibration_data
@options.task
@options.columns
@options.calibration_rows
@options.max_length
@options.statistics
@options.scope("gemm")
@sections.option(
    "--float-sites",
    group=options.ROUNDED,
    default="",
    metavar="NAME,...",
    help="Sites that stay in float, with the GEMMs that read them; `qdeploy analyze` names them.",
)
@options.activations
@sections.option(
    "--weights",
    group=options.HOW,
    cls=options.NamesOption,
    names="qdeploy.calibrate.options:WEIGHTS",
    default="per-channel",
    show_default=True,
    help="Scales of the int8 weights.",
)
@sections.option(
    "--groups",
    group=PEG,
    type=Number(int, least=1, most=32, words=("auto",), why=_WHY_GROUPS),
    default="auto",
    show_default=True,
    metavar="[K|auto]",
    help="Groups of channels per site, at most 32: each is a product of its own. auto takes what"
    " the noise asks for.",
)
@sections.option(
    "--grouping",
    group=PEG,
    cls=options.NamesOption,
    names="qdeploy.calibrate.grouping:GROUPINGS",
    default="optimal",
    show_default=True,
    help="How channels are cut into groups.",
)
@sections.option(
    "--outlier-channels",
    group=PEG,
    type=Number(int, least=0, words=("auto", "none")),
    metavar="[N|auto|none]",
    help="Channels per GEMM input that stay in floating point. When left out: auto with automatic"
    " groups, none where --groups is a number.",
)
@sections.option(
    "--prescale",
    group=PEG,
    cls=options.NamesOption,
    names="qdeploy.calibrate.options:PRESCALES",
    help="GEMM inputs that are scaled by channel in front of one scale where that helps; folded is"
    " where the factors become part of weights before. Scope gemm only. When left out: where it"
    " costs nothing on the target with automatic groups, none where --groups is a number.",
)
@sections.option(
    "--noise-target",
    group=PEG,
    type=Number(float, above=0, most=100),
    default=30.0,
    show_default=True,
    metavar="DB",
    help="A GEMM input whose rounding noise is less than this below the output is treated.",
)
@sections.option(
    "--percentile",
    group=OTHERS,
    type=Number(float, above=50, most=100),
    default=99.99,
    show_default=True,
    metavar="P",
    help="percentile: percent of the values kept on each side.",
)
@sections.option(
    "--mixed",
    group=OTHERS,
    cls=options.NamesOption,
    names="qdeploy.calibrate.options:MIXED_SETS",
    default="ffn",
    show_default=True,
    help="mixed: sites in float; ffn is FFN input, FFN output and residual sum, auto the noisiest.",
)
@sections.option(
    "--alpha",
    group=OTHERS,
    type=Number(float, least=0, most=1, words=("auto",)),
    default="auto",
    show_default=True,
    metavar="[A|auto]",
    help="smoothquant: 0 to 1, how much of the range moves from activations into weights.",
)
@sections.option(
    "--max-drop",
    group=OTHERS,
    type=POINTS,
    metavar="POINTS",
    help="auto: accuracy points that may be lost; 0.3 when left out.",
)
@sections.option(
    "--min-shape",
    group=BUILDER,
    metavar="ROWSxTOKENS",
    help="The smallest run; 1x2 when left out.",
)
@sections.option(
    "--max-shape",
    group=BUILDER,
    metavar="ROWSxTOKENS",
    help="The largest run; 32 rows of full length when left out.",
)
@sections.option(
    "--workspace-mb",
    group=BUILDER,
    type=COUNT,
    metavar="MB",
    help="Scratch memory that kernels may use; all there is when left out.",
)
@sections.option(
    "--timing-cache",
    group=BUILDER,
    type=options.PATH,
    metavar="FILE",
    help="Keeps the timings of kernels from build to build.",
)
@sections.option(
    "--refit", group=BUILDER, is_flag=True, help="The engine's weights can be replaced."
)
@sections.option(
    "--int8-residuals",
    group=BUILDER,
    is_flag=True,
    help="Round the skip branch of residual sums too, so that the sum can run in INT8.",
)
@sections.option(
    "--version-compatible",
    group=TENSORRT,
    is_flag=True,
    help="The engine runs under later versions of TensorRT too.",
)
@sections.option(
    "--cuda-graph/--no-cuda-graph",
    group=TENSORRT,
    default=True,
    show_default=True,
    help="Launch a run as one CUDA graph.",
)
@sections.option(
    "--measure/--no-measure",
    group=sections.OUTPUT,
    default=True,
    show_default=True,
    help="Hold the engine against FP32 on 32 calibration rows; warn of logits that are too noisy.",
)
@sections.option(
    "--dry-run",
    group=sections.OUTPUT,
    is_flag=True,
    help="Stop after lowering; the ONNX file is written, nothing is compiled.",
)
@options.force
@options.seed
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
    talk.report(result, lambda engine: built.show(engine, engine_dir, model_dir))
