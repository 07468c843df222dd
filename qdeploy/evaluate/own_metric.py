"""A metric of the caller's own: a Python callable, or `module:function` of the command line."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdeploy.errors import PlanError
from qdeploy.types import Array, OwnMetric


@dataclass(frozen=True)
class OwnScored:
    """Answers of an engine under a metric of the caller's own (`qdeploy.evaluate.bootstrap`).

    Attributes:
        metric: the callable.
        outputs: of each row, by name; of the windows of a context a list.
        labels: of each row (`qdeploy.evaluate.own_rows`); None where there are none.
    """

    metric: OwnMetric
    outputs: Sequence[Mapping[str, Any]]
    labels: Sequence[Any] | None

    def count(self, name: str) -> int:
        """The rows."""
        return len(self.outputs)

    def figure(self, name: str, drawn: Array | None = None) -> float:
        """What the callable says of all rows, or of those that were drawn.

        Raises:
            PlanError: it fails on all rows, or gives no finite number of them; of a draw that is
                NaN.
        """
        outputs, labels = self.outputs, self.labels
        if drawn is not None:
            outputs = [self.outputs[at] for at in drawn]
            labels = None if self.labels is None else [self.labels[at] for at in drawn]
        try:
            value = float(self.metric(outputs, labels))
        except Exception as error:
            if drawn is not None:
                return math.nan
            raise PlanError(
                f"The metric {name} fails on {len(outputs)} rows: {type(error).__name__}: {error}. "
                "It is called with the outputs of each row and their labels (None without labels)."
            ) from error
        if drawn is None and not math.isfinite(value):
            raise PlanError(f"The metric {name} gives {value}, and a finite number was expected.")
        return value


def name_of(metric: OwnMetric) -> str:
    """What a callable is called in reports."""
    return str(getattr(metric, "__name__", type(metric).__name__))


def load_metric(text: str) -> OwnMetric:
    """The callable that `module:function` names; modules of the current directory are found too.

    Raises:
        PlanError: no such module or function, or one that cannot be called.
    """
    module, _, function = text.partition(":")
    try:
        with _current_directory_first():
            found = getattr(importlib.import_module(module), function, None)
    except Exception as error:  # a module of somebody's may fail in any way
        raise PlanError(
            f"--metric {text}: importing {module} fails: {type(error).__name__}: {error}. Name a "
            "module that Python finds from here, and a function of it: MODULE:FUNCTION."
        ) from error
    if not callable(found):
        raise PlanError(
            f"--metric {text}: {module} has no function '{function}'. Write MODULE:FUNCTION."
        )
    return found  # type: ignore[no-any-return]  # whatever the module has


@contextmanager
def _current_directory_first() -> Iterator[None]:
    """A console script's own folder stands first among Python's otherwise."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
