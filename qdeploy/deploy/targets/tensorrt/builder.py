"""Build a plan from an ONNX file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.deploy.targets.tensorrt.ahead_of_time import aim
from qdeploy.deploy.targets.tensorrt.api import TENSORRT, Library
from qdeploy.errors import ModelError, QDeployWarning, TargetError

if TYPE_CHECKING:
    import tensorrt as trt

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """How a plan is built.

    Attributes:
        shapes: by input, its least, usual and largest shape.
        workspace_mb: scratch memory that kernels may use, 10⁶ bytes; None for all there is.
        timing_cache: of an earlier build, so that kernels are not timed again; may be empty.
        version_compatible: the plan runs under later versions of TensorRT too.
        refit: its weights can be replaced.
        capabilities: compute capabilities that a plan is built for ahead of time ("8.6").
    """

    shapes: Mapping[str, tuple[Shape, Shape, Shape]]
    workspace_mb: int | None = None
    timing_cache: bytes = b""
    version_compatible: bool = False
    refit: bool = False
    capabilities: tuple[str, ...] = ()


@dataclass
class Built:
    """A plan, the timing cache after it, and what the builder said.

    Attributes:
        dump: every layer of the engine, as the builder lists them (`dump.layers_json`); empty where
            it does not.
    """

    plan: bytes
    timing_cache: bytes
    log: list[str] = field(default_factory=list)
    dump: str = ""


class Refused(ModelError):
    """The parser does not take a file.

    Attributes:
        reasons: one of each node that it does not take.
    """

    def __init__(self, text: str, reasons: tuple[str, ...]) -> None:
        super().__init__(f"{text}: {'; '.join(reasons)}")
        self.reasons = reasons


def build_plan(onnx_file: Path, settings: Settings, library: Library = TENSORRT) -> Built:
    """Compile an ONNX file.

    Raises:
        TargetError: no GPU or driver, or the builder found no engine.
        Refused: the parser does not take the file, with every reason.
    """
    api = library.package()
    logger = library.logger()
    logger.lines.clear()
    logger.dump = ""
    builder: trt.Builder = library.made(api.Builder)
    flags = 1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network: trt.INetworkDefinition = builder.create_network(flags)
    parser: trt.OnnxParser = api.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_file)):
        reasons = tuple(_reason(parser.get_error(i)) for i in range(parser.num_errors))
        raise Refused(f"{library.title} does not take {onnx_file}", reasons)
    config: trt.IBuilderConfig = builder.create_builder_config()
    config.profiling_verbosity = api.ProfilingVerbosity.DETAILED
    config.clear_flag(api.BuilderFlag.TF32)  # what is FP32 in the graph is meant so
    if settings.workspace_mb is not None:
        limit = settings.workspace_mb * 1_000_000
        config.set_memory_pool_limit(api.MemoryPoolType.WORKSPACE, limit)
    if settings.version_compatible:
        config.set_flag(api.BuilderFlag.VERSION_COMPATIBLE)
    if settings.refit:
        config.set_flag(api.BuilderFlag.REFIT)
    if library.ahead_of_time:  # whose timings are taken on the device, when the plan is loaded
        aim(library, config, settings.capabilities)
    else:
        _use_timings(config, settings.timing_cache)
    profile: trt.IOptimizationProfile = builder.create_optimization_profile()
    for name, (least, usual, largest) in settings.shapes.items():
        profile.set_shape(name, least, usual, largest)
    if config.add_optimization_profile(profile) < 0:
        shapes = dict(settings.shapes)
        raise TargetError(f"{library.title} refuses the shapes {shapes}: {library.last()}")
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise TargetError(f"{library.title} built no engine: {library.last()}")
    kept = b""
    if not library.ahead_of_time:
        timings: trt.ITimingCache = config.get_timing_cache()
        kept = bytes(timings.serialize())
    return Built(bytes(plan), kept, list(logger.lines), logger.dump)


def _use_timings(config: trt.IBuilderConfig, held: bytes) -> None:
    """Take what an earlier build held; where that is of no use here, begin anew."""
    timings: trt.ITimingCache = config.create_timing_cache(held)
    if timings is None or not config.set_timing_cache(timings, ignore_mismatch=False):
        warnings.warn(
            "The timing cache is of another GPU or version, or damaged: a new one takes its place.",
            QDeployWarning,
            stacklevel=2,
        )
        timings = config.create_timing_cache(b"")
        config.set_timing_cache(timings, ignore_mismatch=False)


def _reason(error: trt.ParserError) -> str:
    """Node, operator, and what was asserted of it; "false" is all of some operators."""
    node = " ".join(filter(None, (error.node_operator(), error.node_name()))) or "graph"
    said = error.desc()
    return f"{node}: {'not imported' if said == 'false' else said}"
