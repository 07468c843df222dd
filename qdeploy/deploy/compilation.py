"""What a compiler says of the engine that it made, where no device is at hand to run it.

The words differ from those of a run in every report: a GEMM was "compiled as INT8", and nothing
"ran". Which kernel the device takes for it, and how long that takes, is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

from qdeploy.deploy.engine import KernelTrace
from qdeploy.deploy.tally import tally, worded
from qdeploy.schemas.certificate import Certificate, Compiled


@dataclass(frozen=True)
class Compilation:
    """The layers of a finished engine.

    Attributes:
        compiler: name and version.
        capabilities: compute capabilities of the devices that it is for.
        trace: the kernels of each GEMM, and all; without times.
        launches: kernels of a run.
        layers: of the engine, JSON, for an estimate of its time.
    """

    compiler: str
    capabilities: tuple[str, ...]
    trace: KernelTrace
    launches: int
    layers: str = ""


def certify_compiled(found: Compilation, planned: Certificate) -> Compiled:
    """Hold what was compiled against what was planned, as `certify` does of a run.

    Args:
        planned: of `qdeploy.deploy.certificate.expected`.
    """
    gemms, others = planned["planned_gemms"], planned["other_products"]
    counts = tally(gemms, found.trace.gemms, 0.0, others)
    by = f"{found.compiler}, for compute capability {', '.join(found.capabilities)}"
    told = worded(counts, measured=planned["flops_measured"], compiler=by)
    return {
        **told,
        "compiler": found.compiler,
        "compute_capabilities": list(found.capabilities),
        "launches": found.launches,
    }
