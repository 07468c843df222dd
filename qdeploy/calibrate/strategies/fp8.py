"""`fp8`: E4M3 for GEMM inputs and weights, one scale per tensor, nothing treated.

Its exponent spans the outliers: the noise of a channel is a share of that channel, whatever the
range of its neighbours (Micikevicius et al. 2022, arXiv 2209.05433; Kuzmin et al. 2022,
arXiv 2208.09225).
"""

from __future__ import annotations

from qdeploy.calibrate.affine import affine_from_range
from qdeploy.calibrate.context import Context, assemble
from qdeploy.calibrate.noise import decibels
from qdeploy.calibrate.options import GEMM_SCOPE, PlanOptions
from qdeploy.calibrate.plan import PerTensor, Plan, SitePlan
from qdeploy.calibrate.ranges import minmax
from qdeploy.calibrate.schemes import E4M3
from qdeploy.errors import PlanError
from qdeploy.graph.structure import Site


def plan(context: Context) -> Plan:
    """Each GEMM input on the scale at which its peak is ±448.

    Raises:
        PlanError: see `check_options`.
    """
    check_options(context.options)
    sites = {site.tensor: _planned(context, site) for site in context.sites}
    return assemble(context, "fp8", sites, E4M3)


def check_options(options: PlanOptions) -> None:
    """Refuse options of 8-bit integers.

    Raises:
        PlanError: scope "all", or the skip branches of residual sums, in INT8.
    """
    if options.scope != GEMM_SCOPE:
        raise PlanError(
            "--strategy fp8 is of scope gemm: --scope all rounds what integer-only accelerators "
            "compute, and FP8 is none of theirs. Leave --scope out, or take w8a8 or peg."
        )
    if options.int8_residuals:
        raise PlanError(
            "--int8-residuals adds in INT8, and an engine of --strategy fp8 has none. Leave it "
            "out, or take w8a8 or peg."
        )


def _planned(context: Context, site: Site) -> SitePlan:
    affine = affine_from_range(*minmax(context.statistics[site.tensor]), E4M3)
    noise = decibels(context.noise.e4m3_share(site, affine.scale))
    return SitePlan(site.name, site.tensor, PerTensor(affine), "fp8", noise)
