"""The check that every test goes through: what a test leaves in `sys.modules` is found."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.modules import importing, left_behind

NAME = "a_package_of_a_test"


def file(folder: Path) -> str:
    (folder / f"{NAME}.py").write_text("")
    return NAME


def package(folder: Path) -> str:
    (folder / NAME).mkdir()
    (folder / NAME / "__init__.py").write_text("")
    return NAME


def namespace(folder: Path) -> str:
    (folder / NAME).mkdir()
    return NAME


@pytest.mark.parametrize("make", [file, package, namespace])
def test_what_lies_in_a_temporary_folder_is_found(
    make: Callable[[Path], str], tmp_path: Path
) -> None:
    path, before = list(sys.path), set(sys.modules)
    with importing(tmp_path):
        importlib.import_module(make(tmp_path))
        assert left_behind(before) == [NAME]
        assert left_behind(set(sys.modules)) == []
    assert NAME not in sys.modules and sys.path == path


def test_a_namespace_that_is_not_installed_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the working directory that has the name of a package."""
    before = set(sys.modules)
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/nowhere")
    with importing(tmp_path):
        importlib.import_module(namespace(tmp_path))
        assert left_behind(before) == [NAME]


@pytest.mark.parametrize("module", [ModuleType("tensorrt"), None])
def test_a_stand_in_is_found(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(sys.modules) - {"tensorrt"}
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    assert left_behind(before) == ["tensorrt"]


def test_what_is_installed_may_stay() -> None:
    """With all that the tests' own imports loaded."""
    assert left_behind(set()) == []


def test_what_is_installed_and_loaded_meanwhile_stays(tmp_path: Path) -> None:
    before = set(sys.modules)
    with importing(tmp_path):
        importlib.import_module("wave")  # of the standard library; nothing here needs it
    assert set(sys.modules) - before <= {"wave"} and "wave" in sys.modules
