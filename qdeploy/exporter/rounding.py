"""How near a graph has to be to its model: within FP32 rounding, whatever the outputs' size.

Two runtimes add up in another order, so their FP32 outputs differ by roundings, which grow with the
outputs: 1e-6 for logits of 1, 1e-4 for prices of 300. `TOLERANCE`, relative to the outputs, is far
above the roundings of most models and far below what any wrong weight does. Where it fails, or
where outputs are larger than 1, the model itself is the measure: torch runs in FP64, and the graph
has to be as near to that as torch's own FP32 is, within `ROUNDINGS` times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qdeploy.errors import VerificationError
from qdeploy.exporter.quiet import quiet
from qdeploy.types import Array

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Of outputs of 1 and below, relative to them. FP32 rounding differs by some 1e-6 between two
# runtimes; a wrong graph by 1e-3 and more. Above 1 it is absolute.
TOLERANCE = 1e-4
# The graph's distance to FP64 over torch's own: 0.5 to 2 in the families that are tested; a weight
# that is off by 1e-3 of its size gives some hundreds.
ROUNDINGS = 8.0
# Half a unit in the last place of FP32, which no output escapes.
_LAST_PLACE = 2.0**-24
REPORT = (
    "Nothing was written. Export with the versions of constraints.txt; if it stays, report the "
    "architecture."
)


@dataclass(frozen=True)
class Agreement:
    """How near a graph is to its model.

    Attributes:
        absolute: largest difference of an output from torch in FP32.
        relative: the largest one over the largest output of that name.
        rounding: torch's own FP32 against FP64, relative; None where it was not needed.
    """

    absolute: float
    relative: float
    rounding: float | None = None

    def as_dict(self) -> dict[str, float]:
        """For the manifest."""
        found = {"max_abs_diff": self.absolute, "max_rel_diff": self.relative}
        return found if self.rounding is None else found | {"fp32_rounding": self.rounding}


@dataclass(frozen=True)
class Case:
    """One output of one batch.

    Attributes:
        where: kind and shape of the batch, for the text.
        name: of the output.
        feeds: its inputs, int64 [B, S] each.
        expected: from torch in FP32.
        found: from the graph.
    """

    where: str
    name: str
    feeds: dict[str, Array]
    expected: Array
    found: Array

    @property
    def size(self) -> float:
        """Largest absolute value."""
        return float(np.abs(self.expected).max())

    @property
    def difference(self) -> float:
        """Largest absolute difference."""
        return float(np.abs(self.expected - self.found).max())


def agreement(model: PreTrainedModel, cases: Sequence[Case]) -> Agreement:
    """Hold all cases against each other.

    Args:
        model: the torch model, FP32; it is FP32 again afterwards.
        cases: at least one.

    Raises:
        VerificationError: a logit differs by more than the model's own rounding explains.
    """
    return agreement_with(cases, Second("torch", "torch in FP64", lambda: _in_double(model, cases)))


@dataclass(frozen=True)
class Second:
    """What computes the same outputs once more, to tell rounding from a fault.

    Attributes:
        first: words for what gave `Case.expected`.
        name: words for what gives the second ones.
        outputs: gives them, one for each case.
    """

    first: str
    name: str
    outputs: Callable[[], list[Array]]


def agreement_with(cases: Sequence[Case], second: Second) -> Agreement:
    """The same against any reference.

    Args:
        cases: at least one.
        second: only asked where a case is beyond `TOLERANCE`.

    Raises:
        VerificationError: an output differs by more than the reference's own rounding explains.
    """
    sizes: dict[str, float] = {}
    for case in cases:  # of all batches: one logit of one row may be near zero by chance
        sizes[case.name] = max(case.size, sizes.get(case.name, 0.0))
    alike = all(case.difference <= TOLERANCE * min(1.0, sizes[case.name]) for case in cases)
    rounding = None if alike else _check_rounding(second, cases, sizes)
    absolute = max(case.difference for case in cases)
    relative = max(case.difference / (sizes[case.name] or 1.0) for case in cases)
    return Agreement(absolute, relative, rounding)


def check_comparable(case: Case) -> None:
    """Refuse outputs of torch that are not finite, and shapes that differ.

    Raises:
        VerificationError: see above.
    """
    if not np.isfinite(case.expected).all():
        raise VerificationError(
            f"The checkpoint itself gives {case.name} that are NaN or infinite ({case.where}): its "
            "values overflow FP32. Pass a checkpoint whose training converged."
        )
    if case.expected.shape != case.found.shape:
        raise VerificationError(
            f"{case.name} of the exported graph has the shape {case.found.shape}, and torch gives "
            f"{case.expected.shape} ({case.where}). {REPORT}"
        )


def _check_rounding(second: Second, cases: Sequence[Case], sizes: Mapping[str, float]) -> float:
    """Compare both with the second reference; return the first one's own relative distance."""
    exact = second.outputs()
    by = [sizes[case.name] or 1.0 for case in cases]
    own = max(
        _distance(case.expected, right) / s for case, right, s in zip(cases, exact, by, strict=True)
    )
    bound = ROUNDINGS * max(own, _LAST_PLACE)
    for case, right, size in zip(cases, exact, by, strict=True):
        distance = _distance(case.found, right) / size
        if not distance <= bound:  # so that NaN fails as well
            raise VerificationError(
                f"{case.name} of the exported graph differs from {second.first} by "
                f"{case.difference:.2e} ({case.where}), {case.difference / size:.1e} of the "
                f"largest; against {second.name} by {distance:.1e}, where {second.first} itself "
                f"differs by {own:.1e}, and at most {bound:.1e} was expected. {REPORT}"
            )
    return own


def _distance(found: Array, right: Array) -> float:
    return float(np.abs(found - right).max())


def _in_double(model: PreTrainedModel, cases: Sequence[Case]) -> list[Array]:
    """Each case's output in FP64. The model is converted and back, which loses nothing."""
    import torch

    outputs: list[Array] = []
    try:
        model.double()
        for case in cases:
            feeds = {name: torch.from_numpy(array) for name, array in case.feeds.items()}
            with quiet(), torch.no_grad():
                outputs.append(model(**feeds)[case.name].numpy())
    except Exception as error:  # a model that casts to FP32 in between cannot run in FP64
        worst = max(cases, key=lambda case: case.difference)
        raise VerificationError(
            f"{worst.name} of the exported graph differs from torch by {worst.difference:.2e} "
            f"({worst.where}), and the model does not run in FP64 to tell rounding from a fault: "
            f"{' '.join(str(error).split())[:200]}. {REPORT}"
        ) from error
    finally:
        model.float()
    return outputs
