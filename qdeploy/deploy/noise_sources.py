"""Which sites an engine's noise comes from, measured: each is quantized alone, the rest is FP32.

Alone, not left out: where the noise of fifty sites adds up, leaving one out changes nothing that
can be seen, and alone each shows its own part. A site is lowered as in the engine (scales, groups,
factors, outlier channels, and the int8 weights of the GEMMs that read it), so that what its weights
do counts too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from qdeploy.calibrate.batches import Sample
from qdeploy.calibrate.plan import FLOAT, Float, Plan, SitePlan
from qdeploy.deploy.logit_noise import Outputs, difference, outputs_of
from qdeploy.deploy.ort.simulator import SimulatedEngine
from qdeploy.deploy.targets.base import Target
from qdeploy.files.artifact import save_graph
from qdeploy.files.scratch import scratch
from qdeploy.graph.structure import Structure
from qdeploy.head import Head

TABLES = "embedding tables"
WANTED = 8  # sites that are looked for
# What the search may take: about ten seconds for twenty-four layers on two idle cores.
_RUNS, _SECONDS = 40, 20.0
_WEIGHTS = "weights.bin"


@dataclass(frozen=True)
class Source:
    """One site, or all embedding tables.

    Attributes:
        name: of the site.
        tensor: None for the embedding tables.
        alone_db: logit SQNR when it alone is quantized.
    """

    name: str
    tensor: str | None
    alone_db: float


class SingleSites:
    """Measures parts of a plan on a sample of rows.

    Args:
        model: canonical FP32 graph; it is not changed.
        reference: FP32 outputs of `sample`.
        tokens: rows times tokens of the runs that the engine is meant for.
    """

    def __init__(
        self,
        model: ir.Model,
        plan: Plan,
        structure: Structure,
        target: Target,
        tokens: int,
        sample: Sample,
        reference: Outputs,
        head: Head,
    ) -> None:
        self._model, self._plan, self._structure = model, plan, structure
        self._target, self._tokens = target, tokens
        self._sample, self._reference, self._head = sample, reference, head

    def sources(self) -> list[Source]:
        """The noisiest sites that were found, noisiest first, `WANTED` of them at most.

        Of many sites, stretches of about √N in graph order are measured first, and then the sites
        of the noisiest ones: a stretch is at least as noisy as any site in it.
        """
        names: dict[str | None, str] = {
            tensor: site.name
            for tensor, site in self._plan.sites.items()
            if not isinstance(site.treatment, Float)
        }
        if self._plan.tables:
            names[None] = TABLES
        with scratch("noise") as folder:
            levels = _search(list(names), self._measurer(folder))
        found = [Source(names[tensor], tensor, level) for tensor, level in levels.items()]
        return sorted(found, key=lambda source: source.alone_db)[:WANTED]

    def without(self, sources: Iterable[Source]) -> float:
        """Logit SQNR of the plan with these in float, dB."""
        left = {source.tensor for source in sources}
        kept = {t for t in self._plan.sites if t not in left}
        with scratch("noise") as folder:
            return self._measurer(folder)(kept | ({None} - left))

    def _measurer(self, folder: Path) -> Callable[[set[str | None]], float]:
        """SQNR of the graph in which these alone are quantized.

        The FP32 weights are written once; every graph maps them.
        """
        save_graph(self._model.clone(), folder / "base.onnx", _WEIGHTS)
        base = ir.load(folder / "base.onnx")

        def measure(chosen: set[str | None]) -> float:
            part = only(self._plan, self._structure, chosen)
            path = folder / "part.onnx"
            lowered = self._target.lower(base.clone(), part, self._structure, self._tokens)
            ir.save(lowered.model, path)
            found = outputs_of(SimulatedEngine(path), self._sample)
            return difference(self._reference, found, self._sample, self._head).sqnr_db

        return measure


def _search(
    tensors: list[str | None], measure: Callable[[set[str | None]], float]
) -> dict[str | None, float]:
    """Levels of single sites, dB: of all, or of those that may be the noisiest."""
    end, runs = time.monotonic() + _SECONDS, 0

    def left() -> bool:
        return runs < _RUNS and time.monotonic() < end

    size = 1 if len(tensors) <= _RUNS // 2 else math.isqrt(len(tensors) - 1) + 1
    stretches: list[tuple[float, list[str | None]]] = []
    for at in range(0, len(tensors), size):
        if left():
            stretch = tensors[at : at + size]
            stretches.append((measure(set(stretch)), stretch))
            runs += 1
    if size == 1:
        return {stretch[0]: level for level, stretch in stretches}
    found: dict[str | None, float] = {}
    for level, stretch in sorted(stretches, key=lambda one: one[0]):
        if len(found) >= WANTED and level >= sorted(found.values())[WANTED - 1]:
            break
        for tensor in stretch:
            if left():
                found[tensor] = measure({tensor})
                runs += 1
    return found


def only(plan: Plan, structure: Structure, chosen: set[str | None]) -> Plan:
    """The plan with all but some sites in float.

    Args:
        chosen: tensors of the sites that keep their treatment; None for the embedding tables.
    """
    sites = {
        tensor: site
        if tensor in chosen
        else SitePlan(site.name, tensor, Float(), "left out of this measurement")
        for tensor, site in plan.sites.items()
    }
    readers = {gemm.name: gemm.input for gemm in structure.gemms}
    gemms = {
        name: gemm if readers[name] in chosen else replace(gemm, precision=FLOAT)
        for name, gemm in plan.gemms.items()
    }
    return replace(plan, sites=sites, gemms=gemms, tables=plan.tables if None in chosen else ())
