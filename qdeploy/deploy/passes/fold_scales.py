"""Pre-quantization scales of a GEMM's input, folded into the weight that the input comes from.

Column c of the value's weight and entry c of its bias take the factor that channel c of the context
would be multiplied by; row c of the weight behind is divided by it. Both stay FP32 here, so the
graph computes the same; with a scale per column neither int8 weight loses anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qdeploy.calibrate.plan import PerTensor, Plan, SitePlan
from qdeploy.deploy.passes.base import Pass, PassResult, Report
from qdeploy.graph.constants import constant
from qdeploy.graph.structure import Gemm, Structure
from qdeploy.types import Array


@dataclass(frozen=True)
class FoldScales(Pass):
    """The scales of every site that has a linear source become part of two weights.

    1. Assumes that channel c of a site with a linear source (`qdeploy.graph.linear`) is a sum of
       column c of that GEMM. The structure cannot tell heads in another order: the comparison does.
    2. Multiplies columns and bias of the source, divides rows of the readers. The plan loses those
       scales, and its means take them.
    3. Guarantees that numbers differ by the roundings of FP32.
    4. Leaves weights that have one scale for all columns: there a column that grows costs the
       others bits.
    5. Leaves weights that anything else reads.

    Attributes:
        wanted: False for a target that multiplies for nothing.
    """

    name = "fold_scales"
    action = "Folding pre-quantization scales"
    nothing: ClassVar[Report] = {"folded_prescales": []}

    wanted: bool = True

    def apply(self, model: ir.Model, plan: Plan, structure: Structure) -> PassResult:
        """Fold into the constants; see `Pass.apply`.

        The report names the sites: {"folded_prescales": [site]}.
        """
        if not self.wanted:
            return self.leave(plan, "the target multiplies for nothing")
        if not plan.per_channel_weights:
            return self.leave(plan, "weights have one scale for all columns")
        constants = model.graph.initializers
        gemms = {gemm.name: gemm for gemm in structure.gemms}
        sites, names = dict(plan.sites), list[str]()
        for tensor, source in structure.linear_sources.items():
            treatment = plan.treatment(tensor)
            writer, readers = gemms[source], structure.consumers(tensor)
            if not isinstance(treatment, PerTensor) or not treatment.pre_quant_scale:
                continue
            if treatment.pre_quant_shift:  # sums of the source need not add up to one of it
                continue
            # Some encoders share weights between layers; the factor is right for one of them alone.
            if not _own(constants, writer, *readers):
                continue
            _fold(
                model.graph.initializers,
                np.array(treatment.pre_quant_scale, np.float32),
                writer,
                readers,
            )
            sites[tensor] = _without_scales(sites[tensor], treatment)
            names.append(sites[tensor].name)
        if not names:
            return self.leave(plan, "no pre-quantization scale stands behind a weight of its own")
        return PassResult(True, replace(plan, sites=sites), {"folded_prescales": names})


def _fold(
    constants: Mapping[str, ir.Value], factor: Array, writer: Gemm, readers: tuple[Gemm, ...]
) -> None:
    """Multiply by `factor`, FP32 [C], what is written, and divide by it what is read."""
    # An output channel is a column of a weight that is stored [K, N], and a row of [N, K]; an input
    # channel the other way round.
    changes: dict[str, Array] = {writer.weight: factor[:, None] if writer.transposed else factor}
    if writer.bias is not None:
        changes[writer.bias] = factor
    for reader in readers:
        changes[reader.weight] = 1 / factor if reader.transposed else 1 / factor[:, None]
    for name, change in changes.items():
        array = constant(constants[name])
        assert array is not None
        # A new tensor, as clones share the old one.
        constants[name].const_value = ir.Tensor((array * change).astype(array.dtype), name=name)


def _without_scales(site: SitePlan, treatment: PerTensor) -> SitePlan:
    """A site whose scales are in the weights: its means are those of what is then read."""
    mean = tuple(m * f for m, f in zip(site.mean, treatment.pre_quant_scale, strict=False))
    covariance = site.covariance
    if covariance is not None:
        covariance = covariance * np.outer(treatment.pre_quant_scale, treatment.pre_quant_scale)
    plain = replace(treatment, pre_quant_scale=())
    return replace(site, treatment=plain, mean=mean, covariance=covariance)


def _own(constants: Mapping[str, ir.Value], *gemms: Gemm) -> bool:
    """True where nothing else reads the constants of these GEMMs."""
    names = [name for gemm in gemms for name in (gemm.weight, gemm.bias) if name is not None]
    return all(len(constants[name].uses()) == 1 for name in names)
