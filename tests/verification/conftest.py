"""Engines to check, and to damage: of two sizes, with weights in a file of their own."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.deploy import build
from qdeploy.errors import GateError
from qdeploy.schemas.verification import Check, Verified
from tests.deploy.head_engines import engines as engines  # a fixture
from tests.exports import Exports
from tests.once import Once

Copy = Callable[..., Path]
SIZES = (32, 64)


def make_engine(model: Path, directory: Path, **options: Any) -> Path:
    """An engine with external data, of a model whose noise is of no matter here."""
    whole = build.MAPPED_BYTES
    build.MAPPED_BYTES = 1000
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            qdeploy.build(model, directory, calibration_rows=8, measure=False, **options)
    finally:
        build.MAPPED_BYTES = whole
    return directory


@pytest.fixture(scope="session")
def engine(once: Once, exported: Exports) -> Callable[..., Path]:
    """An engine of a tiny model, made once; not to be changed."""

    def find(hidden: int = 32, seed: int = 0, **options: Any) -> Path:
        options = {"strategy": "peg"} | options

        def make(home: Path) -> None:
            model = shutil.copytree(exported(hidden=hidden, seed=seed).model_dir, home / "model")
            make_engine(model, home / "engine", **options)

        home, _ = once("verified", (hidden, seed, sorted(options.items())), make)
        return home / "engine"

    return find


@pytest.fixture
def copy(engine: Callable[..., Path], tmp_path: Path) -> Copy:
    """A copy of one of these engines, to be changed."""

    def take(name: str = "copy", **options: Any) -> Path:
        return shutil.copytree(engine(**options), tmp_path / name)

    return take


def failed(directory: Path, **options: Any) -> dict[str, str]:
    """The checks that fail, with what they say; none where all hold."""
    try:
        found = qdeploy.verify(directory, **options)
    except GateError as error:
        assert error.report["ok"] is False
        checks: list[Check] = error.report["checks"]
        return {one["name"]: one["text"] for one in checks if one["state"] == "failed"}
    assert found["ok"]
    return {}


def states(found: Verified) -> dict[str, str]:
    """The state of each check."""
    return {one["name"]: one["state"] for one in found["checks"]}
