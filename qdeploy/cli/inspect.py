"""`qdeploy inspect`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from qdeploy import api
from qdeploy.against.options import AGAINST, AgainstOptions
from qdeploy.cli import comparison, inspection, options, sections
from qdeploy.cli import output as talk
from qdeploy.errors import PlanError
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
@sections.option(
    "--against",
    group=AGAINST,
    type=options.PATH,
    metavar="FP32",
    help="Say what the file loses against this FP32 .onnx file, or the one in a model directory:"
    " both answer the rows of --data.",
)
@options.of(AgainstOptions)
@options.html
@options.reporting
@click.pass_context
def inspect(
    ctx: click.Context,
    /,
    path: Path,
    target: str | None,
    require_int8: float | None,
    against: Path | None,
    html: Path | None,
    **settings: object,
) -> None:
    """Show a model, an engine or any ONNX file.

    Of an engine: what it is, its INT8 kernels, and a row per layer. Of an ONNX file that anything
    made: which of its GEMMs ONNX Runtime's CPU provider runs in INT8, and why the others do not;
    with --target and a GPU target, what in it breaks that target's rules for quantized graphs, and
    what to do. With TensorRT-RTX installed and a TensorRT target, also whether that compiler takes
    it, and which products it compiles as INT8 or FP8. Exit code 1 where rules are broken. -v shows
    every site, GEMM and place.

    With --against, what a quantized file of anybody loses against its FP32 file: agreement, noise
    and accuracy on the same rows, and which INT8 product costs most."""
    if against is not None:
        _compare(
            ctx, path, against, html, {"target": target, "require_int8": require_int8}, settings
        )
        return
    _refuse({"html": html, **_typed(ctx, settings)}, "goes with --against FP32")
    result, failure = talk.gated(
        partial(api.inspect, path, target=target, require_int8=require_int8)
    )
    show = partial(inspection.show, path=path, verbose=talk.is_verbose(ctx))
    talk.report(result, show)
    if failure is not None:
        raise failure


def _compare(
    ctx: click.Context,
    path: Path,
    against: Path,
    html: Path | None,
    others: dict[str, object],
    settings: dict[str, object],
) -> None:
    """The comparison with an FP32 file."""
    _refuse(others, "does not go with --against")
    with talk.progress() as progress:
        call = partial(
            api.inspect_against, path, against, None, html=html, progress=progress, **settings
        )
        result, failure = talk.gated(call)
    talk.report(result, partial(comparison.show, verbose=talk.is_verbose(ctx)))
    if failure is not None:
        raise failure


def _typed(ctx: click.Context, settings: dict[str, object]) -> dict[str, object]:
    """Those options that were typed."""
    default = click.core.ParameterSource.DEFAULT
    return {
        name: value
        for name, value in settings.items()
        if ctx.get_parameter_source(name) is not default
    }


def _refuse(given: dict[str, object], why: str) -> None:
    """Refuse options that have no meaning beside the others.

    Raises:
        PlanError: naming the first.
    """
    for name, value in given.items():
        if value is not None:
            raise PlanError(f"--{name.replace('_', '-')} {why}. Leave it out.")
