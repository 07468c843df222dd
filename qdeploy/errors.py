"""Every error qdeploy raises on purpose.

    QDeployError                  exit code 2: wrong use, the text says what to do next
    ├── CheckpointError           the checkpoint cannot be exported
    ├── ModelError                the model or engine directory is not what it should be
    │   └── RunError              a runtime does not load or run its graph
    ├── DataError                 rows that cannot be read, or do not fit the model
    │   └── RowError              one row that the model cannot answer
    ├── StatisticsError           statistics that do not belong to this model
    ├── PlanError                 a strategy or an option that cannot be followed
    ├── TargetError               a target that is unknown, missing here, or cannot express the plan
    ├── OutputError               the output exists, or cannot be written
    ├── PackageError              a package that an extra brings is not installed
    ├── MachineError              a full disk, no permission, no memory, another limit
    ├── VerificationError         a result that disagrees with its reference
    └── GateError                 exit code 1: a gate the user set was not met

`QDeployWarning` marks what is suspicious but not wrong.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any


class QDeployError(Exception):
    """Base of all errors; its text holds the fact, what was expected and what to do next."""

    exit_code = 2


class CheckpointError(QDeployError):
    """The checkpoint cannot be exported."""


class ModelError(QDeployError):
    """The model or engine directory is not what it should be."""


class RunError(ModelError):
    """A runtime does not load or run a graph.

    Attributes:
        fact: what it said, as it goes on after the name of a file.
    """

    fact = ""


class DataError(QDeployError):
    """Rows that cannot be read, or do not fit the model."""


class RowError(DataError):
    """A row that the model cannot answer, where the others may be.

    Attributes:
        fact: what is wrong with it, as a clause.
    """

    def __init__(self, text: str, fact: str = "") -> None:
        super().__init__(text)
        self.fact = fact

    @classmethod
    def of(cls, row: int, fact: str, remedy: str) -> RowError:
        """The error of a row.

        Args:
            row: its place, from 0.
            fact: what is wrong with it, as a clause.
            remedy: what to do, as a sentence.
        """
        return cls(f"Row {row + 1}: {fact}. {remedy}", fact)


class StatisticsError(QDeployError):
    """Statistics that do not belong to this model, or cannot be merged."""


class PlanError(QDeployError):
    """A strategy or an option that cannot be followed."""


class TargetError(QDeployError):
    """A target that is unknown, missing on this machine, or cannot express the plan."""


class OutputError(QDeployError):
    """The output exists already, or cannot be written.

    Attributes:
        report: the result, where only a file that was wanted of it could not be written.
    """

    report: Mapping[str, Any] | None = None


class MachineError(QDeployError):
    """The machine refused: a full disk, no permission, no memory, or another of its limits."""


class PackageError(QDeployError):
    """A package that an extra brings is not installed."""


class VerificationError(QDeployError):
    """A result that disagrees with its reference."""


class GateError(QDeployError):
    """A gate that the user set (`--max-drop`, `--require-int8`) was not met.

    Attributes:
        report: the complete report of what failed the gate.
    """

    exit_code = 1

    def __init__(self, message: str, report: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.report: Mapping[str, Any] = report or {}


class QDeployWarning(UserWarning):
    """Something suspicious that does not stop the work."""


def choose(kind: str, word: str, choices: Iterable[str], error: type[QDeployError]) -> str:
    """Return `word` when it is one of `choices`, else raise `error` with the nearest one.

    Args:
        kind: what the word names, for the text ("strategy").
        word: what the user typed.
        choices: the allowed words.
        error: the class to raise.
    """
    known = list(choices)
    if word in known:
        return word
    raise error(
        f"Unknown {kind} '{word}'.{nearest(word, known)} Choose one of: {', '.join(known)}."
    )


def nearest(word: str, choices: Iterable[str]) -> str:
    """The question whether the user meant the nearest word, with a space in front; maybe empty.

    >>> nearest("Fp-32", ["fp32", "fp16"])
    " Did you mean 'fp32'?"
    """
    folded = {choice.casefold(): choice for choice in choices}
    word = str(word)  # an argument of Python may be anything
    near = difflib.get_close_matches(word.casefold(), folded, n=1)
    if not near and word:  # the beginning of a long one
        near = [choice for choice in folded if choice.startswith(word.casefold())][:1]
    return f" Did you mean '{folded[near[0]]}'?" if near else ""


def genuine(package: ModuleType, attribute: str, whose: str, install: str) -> ModuleType:
    """A package that was imported, unless it is a folder that happens to have its name.

    Args:
        package: the module.
        attribute: what the real one has.
        whose: "NVIDIA's", for the text.
        install: what to type.

    Raises:
        TargetError: it is such a folder.
    """
    if not hasattr(package, attribute):
        places = ", ".join(getattr(package, "__path__", ["?"]))
        raise TargetError(
            f"{package.__name__} is not {whose} package here, but {places}. Run from another "
            f"folder, or rename that one. {install}"
        )
    return package
