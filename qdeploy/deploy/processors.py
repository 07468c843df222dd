"""Whether the numbers that were measured of an engine hold on this processor."""

from __future__ import annotations

from qdeploy.machine.processor import CALLED, EXACT, instruction_set
from qdeploy.schemas.certificate import Processors


def holds_here(processors: Processors, here: str | None = None) -> str | None:
    """A warning where an engine's numbers are not proved for a processor; None where they are.

    Args:
        processors: of its certificate.
        here: one of `qdeploy.machine.processor.INSTRUCTION_SETS`; this machine's when left out.
    """
    found = instruction_set() if here is None else here
    # those that add in 16 bits saturate alike
    if processors["proved"] or (found in EXACT) == (processors["made_on"] in EXACT):
        return None
    first = processors["saturating"][0]["gemm"]
    return (
        f"The engine was made on a processor with {CALLED[processors['made_on']]}, and this one "
        f"has {CALLED[found]}: {len(processors['saturating'])} of {processors['products']} INT8 "
        f"products (first: {first}) can saturate on one of the two, so that answers differ from "
        "those that were measured. Build the engine with --cpu any."
    )
