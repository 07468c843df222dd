"""What `build` says: the engine's fields, and beside them what a reader wants first."""

from __future__ import annotations

from typing import Literal

from typing_extensions import TypedDict

from qdeploy.schemas.certificate import Compiled, Int8
from qdeploy.schemas.manifest import EngineFields


class PlanSummary(TypedDict):
    """Sites by treatment, and GEMMs by precision; `planned_share` is of the FLOPs, as text."""

    sites: dict[str, int]
    int8_gemms: int
    fp8_gemms: int
    float_gemms: int
    lowest_sqnr_db: float | None
    planned_share: str


class Built(EngineFields):
    """What `build` returns.

    `size_mb` is of the graph, its weights and the compiled plan, 10⁶ bytes.
    """

    int8: Int8 | None
    compiled: Compiled | None
    plan: PlanSummary
    size_mb: float


class BuiltForRows(Built):
    """The same; `label_fault` is what `eval` would say of the labels of the engine's rows."""

    label_fault: str | None


class Bundled(TypedDict):
    """What `bundle` returns; `use` is a command or a program that loads it."""

    kind: Literal["bundle"]
    format: str
    engine: str
    out: str
    use: str
