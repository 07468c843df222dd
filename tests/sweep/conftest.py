"""A tiny encoder, labelled rows and a recipe, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.calibrate.encoder import model_directory

RECIPE = """
calibration: {rows: 8, seed: 0}
latency: {shapes: [2x16], warmup: 1, iterations: 20, threads: 1}
trials:
  - {strategy: dynamic}
  - {strategy: [w8a8, peg], activations: symmetric}
"""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_directory(tmp_path_factory.mktemp("sweep") / "model")


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    lines = ["question\tsentence\tlabel"]
    classes = ("entailment", "not_entailment")
    lines += [
        f"which city number {i}?\tthe city is {'x ' * (i % 7)}.\t{classes[i % 2]}"
        for i in range(24)
    ]
    path = tmp_path_factory.mktemp("rows") / "rows.tsv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="session")
def other_rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Rows that calibrate nothing."""
    classes = ("entailment", "not_entailment")
    lines = ["question\tsentence\tlabel"]
    lines += [
        f"who built {i}?\tthe king built {'x ' * (i % 5)}.\t{classes[i % 2]}" for i in range(24)
    ]
    path = tmp_path_factory.mktemp("rows") / "other.tsv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return path
