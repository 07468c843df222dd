"""Factors in front of a GEMM's input, folded into the weight that the input comes from.

Column c of the value's weight and entry c of its bias take the factor that channel c of the context
would be multiplied by; row c of the weight behind is divided by it. Both stay FP32 here, so the
graph computes the same (`qdeploy.deploy.passes.pipeline` runs both); with a scale per column
neither int8 weight loses anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.plan import PerTensor, Plan
from qdeploy.graph.sites import constant
from qdeploy.graph.structure import Gemm, Structure
from qdeploy.types import Array


@dataclass(frozen=True)
class Folded:
    """What was folded.

    Attributes:
        plan: without the factors that went into weights.
        sites: names of those sites.
        undo: restores every constant.
    """

    plan: Plan
    sites: tuple[str, ...]
    undo: Callable[[], None]


def fold_prescales(model: ir.Model, plan: Plan, structure: Structure) -> Folded:
    """Fold the factors of every site that has a linear source, in place.

    Args:
        model: FP32 graph; its constants change.
        plan, structure: of that graph.
    """
    gemms = {gemm.name: gemm for gemm in structure.gemms}
    constants = model.graph.initializers
    before: dict[str, Any] = {}
    sites = dict(plan.sites)
    names = []
    for tensor, source in structure.linear_sources.items():
        treatment = plan.treatment(tensor)
        writer, readers = gemms[source], structure.consumers(tensor)
        if not isinstance(treatment, PerTensor) or not treatment.prescale:
            continue
        if not plan.per_channel_weights or not _own(constants, writer, *readers):
            continue
        factor = np.array(treatment.prescale, np.float32)
        changes: dict[str, Array] = {
            writer.weight: factor[:, None] if writer.transposed else factor
        }
        if writer.bias is not None:
            changes[writer.bias] = factor
        for reader in readers:
            changes[reader.weight] = 1 / factor if reader.transposed else 1 / factor[:, None]
        for name, change in changes.items():
            before.setdefault(name, constants[name].const_value)
            array: Array | None = constant(constants[name])
            assert array is not None
            constants[name].const_value = ir.Tensor((array * change).astype(array.dtype), name=name)
        site = sites[tensor]
        mean = tuple(m * f for m, f in zip(site.mean, treatment.prescale, strict=False))
        sites[tensor] = replace(site, treatment=replace(treatment, prescale=()), mean=mean)
        names.append(sites[tensor].name)

    def undo() -> None:
        for name, value in before.items():
            constants[name].const_value = value

    return Folded(replace(plan, sites=sites), tuple(names), undo)


def _own(constants: Any, *gemms: Gemm) -> bool:
    """True where nothing else reads the constants of these GEMMs."""
    names = [name for gemm in gemms for name in (gemm.weight, gemm.bias) if name is not None]
    return all(len(list(constants[name].uses())) == 1 for name in names)
