"""Exports, statistics and engines that the tests of this folder share; each is made once."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qdeploy.calibrate.model import load_model
from qdeploy.calibrate.plan import Plan
from qdeploy.calibrate.run import calibrate_model
from qdeploy.data.rows import read_rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.passes.equivalence import ModelInputs
from qdeploy.deploy.passes.pipeline import Rewritten, passes_for, run_passes
from qdeploy.errors import QDeployWarning
from qdeploy.files.artifact import read_manifest
from qdeploy.graph.sites import find_structure
from qdeploy.graph.structure import Structure
from qdeploy.schemas.manifest import ModelManifest
from tests.deploy.head_engines import engines as engines  # a fixture
from tests.exports import Exports
from tests.once import Once

ROWS = 16
DATA = "qnli-mini"


@dataclass(frozen=True)
class Source:
    """A tiny model directory and its statistics over `ROWS` rows; not to be changed."""

    directory: Path
    statistics: Path

    def graph(self) -> tuple[ir.Model, Structure]:
        """A fresh copy of the canonical graph."""
        model, _ = load_model(self.directory)
        return model, find_structure(model)

    def manifest(self) -> ModelManifest:
        """Its qdeploy.json."""
        return read_manifest(self.directory, "model")

    def inputs(self) -> ModelInputs:
        """What its rows look like."""
        return ModelInputs.of(self.manifest())

    def rewritten(
        self, model: ir.Model, plan: Plan, structure: Structure, *, fold: bool = True
    ) -> Rewritten:
        """A graph after the passes of a build."""
        inputs = self.inputs()
        return run_passes(passes_for(inputs, fold=fold), model, plan, structure, inputs)

    def feeds(self, rows: int = 8) -> dict[str, npt.NDArray[Any]]:
        """One padded batch of evaluation rows."""
        encoder = TextEncoder.from_directory(self.directory)
        sample = read_rows(DATA, task="qnli", split="evaluation").take(rows)
        encoded = encoder.encode(sample, max_length=64)
        return next(encoder.batches(encoded, rows)).feeds


@dataclass(frozen=True)
class Built:
    """An engine directory and what `build_engine` returned."""

    directory: Path
    report: dict[str, Any]


@pytest.fixture(scope="session")
def source(exported: Exports, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Source]:
    """Observe the export of a family's tiny checkpoint, once per session."""
    made: dict[str, Source] = {}

    def find(family: str) -> Source:
        if family not in made:
            directory = tmp_path_factory.mktemp("source") / "model"
            shutil.copytree(exported(family).model_dir, directory)  # statistics go beside it
            made[family] = Source(
                directory, calibrate_model(directory, data=DATA, calibration_rows=ROWS)
            )
        return made[family]

    return find


@pytest.fixture(scope="session")
def bert(source: Callable[[str], Source]) -> Source:
    """The tiny BERT."""
    return source("bert")


@pytest.fixture(scope="session")
def engine(source: Callable[[str], Source], once: Once) -> Callable[..., Built]:
    """Build an engine of a family with the given options, once per run; not to be changed.

    Tests look into its graph, tensor by tensor: it is as it was lowered, but for `padding`.
    """

    def build(family: str = "bert", **options: Any) -> Built:
        options = {"padding": "kept"} | options

        def make(home: Path) -> Any:
            where = source(family)
            with warnings.catch_warnings():  # random weights and planted outliers are noisy
                warnings.filterwarnings("ignore", "The (logits|outputs) stand", QDeployWarning)
                return build_engine(
                    where.directory, home / "engine", statistics=where.statistics, **options
                )

        home, report = once("engine", (family, sorted(options.items())), make)
        return Built(home / "engine", report)

    return build


def sqnr_db(reference: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """Signal to noise ratio of `other`, dB."""
    noise = float(np.square(other - reference).sum())
    return 10 * float(np.log10(np.square(reference).sum() / max(noise, 1e-30)))
