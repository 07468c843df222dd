"""How far an engine is from the fastest INT8 GEMMs of the machine."""

from __future__ import annotations

from collections.abc import Mapping

from qdeploy.deploy.certificate import read_certificate
from qdeploy.evaluate.loaded_engine import LoadedEngine
from qdeploy.onnx_file.check import GRAPH
from qdeploy.schemas.evaluation import Evaluation, Int8Peak
from qdeploy.types import Array


def peak_of(
    subject: LoadedEngine, feeds: Mapping[str, Array], report: Evaluation
) -> Int8Peak | None:
    """What the engine's INT8 GEMMs take alone, over its latency.

    Args:
        subject: the engine.
        feeds: int64 [B, S] by input name, of the fixed shape.
        report: with its latency and its certificate, where they were measured.

    Returns:
        None without latency or INT8 kernels, without onnx-ir, and on a GPU.
    """
    latency, check = report["latency_ms"], report["int8"]
    if latency is None or check is None or not check["executed"] or subject.engine.on_device:
        return None
    try:  # it writes graphs, which a machine that only runs engines has no package for
        from qdeploy.deploy.int8_peak import int8_shapes, measure_peak
    except ModuleNotFoundError:
        return None
    certificate = read_certificate(subject.directory)
    shapes = int8_shapes(subject.directory / GRAPH, certificate, feeds)
    peak = measure_peak(shapes, report["protocol"]["threads"])
    if peak is None:
        return None
    return {
        "tops": peak.flops / latency["p50"] / 1e9,  # operations per ms are 10⁻⁹ of 10¹² per s
        "peak_tops": peak.flops / peak.ms / 1e9,
        "share": peak.ms / latency["p50"],
        "fastest": dict(peak.fastest),
    }
