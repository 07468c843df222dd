"""`qdeploy inspect`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from qdeploy import api
from qdeploy.cli import inspection, options, sections
from qdeploy.cli import output as talk
from qdeploy.options import GATES


@sections.command()
@click.argument("path", type=options.PATH)
@sections.option(
    "--target",
    group=GATES,
    cls=options.NamesOption,
    names=options.named("qdeploy.deploy.inspect:JUDGED"),
    help="Of an ONNX file or a dry run: hold it against the rules of this target. ort-cpu, which"
    " has kernels to look at, when left out.",
)
@options.require_int8
@options.reporting
@click.pass_context
def inspect(ctx: click.Context, path: Path, target: str | None, require_int8: float | None) -> None:
    """Show a model, an engine or any ONNX file.

    Of an engine: what it is, its INT8 kernels, and a row per layer. Of an ONNX file that anything
    made: which of its GEMMs ONNX Runtime's CPU provider runs in INT8, and why the others do not;
    with --target and a GPU target, what in it breaks that target's rules for quantized graphs, and
    what to do. With TensorRT-RTX installed and a TensorRT target, also whether that compiler takes
    it, and which products it compiles as INT8 or FP8. Exit code 1 where rules are broken. -v shows
    every site, GEMM and place."""
    result, failure = talk.gated(
        partial(api.inspect, path, target=target, require_int8=require_int8)
    )
    show = partial(inspection.show, path=path, verbose=talk.is_verbose(ctx))
    talk.report(result, show)
    if failure is not None:
        raise failure
