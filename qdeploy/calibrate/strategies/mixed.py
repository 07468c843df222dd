"""`mixed`: as w8a8, with the sites that outliers spoil left in float.

The default set is the paper's (arXiv 2603.04308, after Bondarenko et al. 2021, §4): the input of
each feed-forward block, its output, and the residual sum after it.
"""

from __future__ import annotations

from qdeploy.calibrate.context import Context, assemble
from qdeploy.calibrate.plan import Float, Plan, SitePlan
from qdeploy.calibrate.ranges import minmax
from qdeploy.errors import PlanError

# --mixed auto: a site whose own noise is above this SQNR may stay int8; 30 dB is where the expected
# noise of a site equals that of int8 weights on the encoders tried.
_TARGET_DB = 30.0


def plan(context: Context) -> Plan:
    """Min-max ranges, and float where the chosen set says so.

    Raises:
        PlanError: the default set on a graph without a feed-forward block.
    """
    quantized = {
        site.tensor: context.per_tensor(site, minmax(context.statistics[site.tensor]), "w8a8")
        for site in context.sites
    }
    if context.options.mixed == "auto":
        noisy = {
            t for t, s in quantized.items() if s.sqnr_db is not None and s.sqnr_db < _TARGET_DB
        }
        reason = f"expected SQNR below {_TARGET_DB:.0f} dB"
    else:
        noisy, reason = _feed_forward_set(context), "FFN input, FFN output or residual sum"
    sites = {
        tensor: SitePlan(s.name, tensor, Float(), reason) if tensor in noisy else s
        for tensor, s in quantized.items()
    }
    return assemble(context, "mixed", sites)


def _feed_forward_set(context: Context) -> set[str]:
    blocks = context.structure.feed_forwards
    if not blocks:
        raise PlanError(
            "No feed-forward block (GEMM, activation function, GEMM, residual sum) was found in "
            "this graph. Use --mixed auto, which goes by measured noise."
        )
    return {tensor for b in blocks for tensor in (b.input, b.output, b.residual)}
