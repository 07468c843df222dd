"""The contract of a rewrite of the whole graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

if TYPE_CHECKING:
    import onnx_ir as ir

    from qdeploy.calibrate.plan import Plan
    from qdeploy.deploy.passes.equivalence import Comparison
    from qdeploy.graph.structure import Structure

Report: TypeAlias = dict[str, Any]  # JSON: each pass has an entry, or more, of its own form


@dataclass(frozen=True)
class PassResult:
    """What a pass did to a graph.

    Attributes:
        modified: whether the graph or the plan is another one now.
        plan: for the graph as it is now.
        report: JSON-ready, what plan.json says of the pass.
        reason: why nothing was changed, or kept; empty where something was. For reports.
        watched: tensors of both graphs that `Pass.judge` looks at, besides the outputs.
    """

    modified: bool
    plan: Plan
    report: Report
    reason: str = ""
    watched: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What the comparison with the original says of one pass.

    Attributes:
        kept: whether its changes may stand.
        report: in place of the result's, for plan.json.
        reason: why they may not; empty where they may.
    """

    kept: bool
    report: Report
    reason: str = ""


class Pass(ABC):
    """One rewrite. Each has a file named after its effect, and its options are its fields.

    Every pass keeps these rules (tests/deploy/test_pass_contract.py holds each against them), and
    its own docstring numbers what it assumes of the graph, guarantees, and leaves alone:

    1. It changes the graph that it is given, which is a clone. Clones share their tensors, so it
       puts a new tensor in an initializer's place and writes into none.
    2. The graph then computes what it did, as far as `judge` tells; inputs and outputs keep names,
       types and shapes.
    3. The structure holds for the new graph too: sites, GEMMs and tables keep their names (of FP16
       sites alone: nothing looks for a GEMM after `to_fp16`).
    4. Applied to its own result, it changes nothing.
    5. What it does not know it leaves alone, and says why (`leave`). It raises nothing for that.
    6. It undoes nothing: who applied it drops the clone (`qdeploy.deploy.passes.pipeline`).

    Attributes:
        name: of its file.
        action: what it does, as the start of a sentence on what that changed.
        required: whether a plan counts on it, so that a result which differs is an error.
        tolerance: how far outputs may be from the original's, relative to the largest value of each
            output; None for what the roundings of FP32 explain (`Comparison.within`).
        nothing: the report where nothing was changed.
    """

    name: ClassVar[str]
    action: ClassVar[str]
    required: ClassVar[bool] = False
    tolerance: ClassVar[float | None] = None
    nothing: ClassVar[Report] = {}

    @abstractmethod
    def apply(self, model: ir.Model, plan: Plan, structure: Structure) -> PassResult:
        """Rewrite a graph in place.

        Args:
            model: to change.
            plan, structure: of that graph.
        """

    def judge(self, result: PassResult, found: Comparison) -> Verdict:
        """Whether a result may stand.

        Args:
            result: of this pass.
            found: the graph with this pass's changes, and others', beside the original.
        """
        # A difference of NaN is within no tolerance.
        if found.within(self.tolerance):
            return Verdict(True, result.report)
        return Verdict(False, self.nothing, f"{self.action} changed the FP32 outputs by {found}")

    def leave(self, plan: Plan, reason: str) -> PassResult:
        """The result of changing nothing."""
        return PassResult(False, plan, self.nothing, reason)
