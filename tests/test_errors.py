"""The tree of errors, and the text of a wrong choice."""

from __future__ import annotations

import inspect

import pytest

from qdeploy import errors
from qdeploy.errors import GateError, PlanError, QDeployError, TargetError, choose

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, Exception)
]
MISTAKES = [cls for cls in CLASSES if issubclass(cls, QDeployError)]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_is_explained(cls: type[Exception]) -> None:
    assert cls.__doc__


@pytest.mark.parametrize("cls", MISTAKES)
def test_wrong_use_is_2_and_a_gate_is_1(cls: type[QDeployError]) -> None:
    assert cls.exit_code == (1 if cls is GateError else 2)


@pytest.mark.parametrize("cls", MISTAKES)
def test_the_tree_is_drawn_at_the_top_of_the_module(cls: type[QDeployError]) -> None:
    assert cls.__name__ in (errors.__doc__ or "")


def test_a_known_word_comes_back() -> None:
    assert choose("strategy", "peg", ("fp32", "peg"), PlanError) == "peg"


def test_a_wrong_word_names_the_nearest_and_all() -> None:
    with pytest.raises(PlanError) as caught:
        choose("strategy", "percentil", ("fp32", "percentile"), PlanError)
    assert str(caught.value) == (
        "Unknown strategy 'percentil'. Did you mean 'percentile'? Choose one of: fp32, percentile."
    )


def test_a_word_like_no_other_gets_the_list_alone() -> None:
    with pytest.raises(TargetError) as caught:
        choose("target", "xyzzy", iter(("ort-cpu",)), TargetError)
    assert str(caught.value) == "Unknown target 'xyzzy'. Choose one of: ort-cpu."


def test_warnings_are_no_errors() -> None:
    assert not issubclass(errors.QDeployWarning, QDeployError)
