"""The gate --require-int8: how much of the work INT8 kernels must do; of FP8 engines, FP8 ones."""

from __future__ import annotations

from qdeploy.deploy.tally import largest_unplanned, name_of
from qdeploy.errors import PlanError
from qdeploy.figures import percent
from qdeploy.names import few, short_name
from qdeploy.schemas.certificate import Int8

_ROUNDING = 1e-9  # a share of exactly the limit passes, whatever binary fractions make of it
_SHOWN = 3


def check_share(share: float | None) -> None:
    """Refuse a share that is none.

    Raises:
        PlanError: not 0 … 1.
    """
    if share is not None and not 0 <= share <= 1:
        raise PlanError(
            f"--require-int8 is {share:g}, and a share of 0 to 1 was expected (0.99 for 99 %)."
        )


def shortfall(int8: Int8, share: float | None) -> str | None:
    """What is missing, for the user; None where the gate is met or not set.

    Args:
        int8: of `certificate.certify` or `certify_file.certify_file`.
        share: of the FLOPs of all constant-weight products, planned or not.
    """
    if share is None:
        return None
    if not int8["planned"]:
        return "No GEMM is planned in INT8, and --require-int8 is set."
    if int8["flops_share"] >= share - _ROUNDING:
        return None
    fallbacks = [
        f"{short_name(entry['site'])} ran as {entry['kernel']} ({entry['reason']})"
        for entry in int8["fallbacks"]
    ]
    return (
        f"{name_of(int8)} kernels did {percent(int8['flops_share'])} of all constant-weight FLOPs, "
        f"and --require-int8 asks for {100 * share:g} %: {int8['summary']}. Fell back: "
        f"{few(fallbacks, _SHOWN, '; ') or 'none'}. Not planned: "
        f"{largest_unplanned(int8.get('unplanned', ())) or 'none'}."
    )
