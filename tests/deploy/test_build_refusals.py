"""What `build` refuses, in which words, and that nothing is left of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.deploy import build as building
from qdeploy.deploy.build import build_engine
from qdeploy.errors import (
    ModelError,
    OutputError,
    PlanError,
    StatisticsError,
    TargetError,
    VerificationError,
)
from qdeploy.files.artifact import read_json, write_manifest
from tests.deploy.conftest import Built, Source


def test_an_output_around_the_input_is_refused(bert: Source) -> None:
    for output in (bert.directory.parent, bert.directory / "engine"):
        with pytest.raises(OutputError, match="overlap: replacing one would lose the other"):
            build_engine(bert.directory, output, statistics=bert.statistics, force=True)
    assert (bert.directory / "model.onnx").is_file()


@pytest.mark.parametrize("option", ["data", "statistics"])
def test_a_file_that_is_read_is_never_replaced(bert: Source, tmp_path: Path, option: str) -> None:
    engine = tmp_path / "engine"
    build_engine(bert.directory, engine, strategy="fp32")
    (engine / "mine").write_bytes(bert.statistics.read_bytes())
    with pytest.raises(OutputError, match="overlap: replacing one would lose the other"):
        build_engine(bert.directory, engine, force=True, **{option: str(engine / "mine")})  # type: ignore[arg-type]
    assert (engine / "mine").is_file()


def test_the_output_is_never_the_input(bert: Source, tmp_path: Path) -> None:
    before = sorted(path.name for path in bert.directory.iterdir())
    link = tmp_path / "link"
    link.symlink_to(bert.directory)
    for output in (bert.directory, link):
        with pytest.raises(OutputError, match="overlap: replacing one would lose the other"):
            build_engine(bert.directory, output, statistics=bert.statistics, force=True)
    assert sorted(path.name for path in bert.directory.iterdir()) == before


def test_an_existing_output_is_refused_and_kept(bert: Source, tmp_path: Path) -> None:
    output = tmp_path / "engine"
    output.mkdir()
    (output / "mine").write_text("keep")
    with pytest.raises(OutputError, match="already exists. Pass --force"):
        build_engine(bert.directory, output, statistics=bert.statistics)
    with pytest.raises(OutputError, match="files that qdeploy did not write"):
        build_engine(bert.directory, output, statistics=bert.statistics, force=True)
    assert [path.name for path in output.iterdir()] == ["mine"]
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


def test_statistics_of_another_model_are_refused(
    bert: Source, source: Callable[[str], Source], tmp_path: Path
) -> None:
    other = source("distilbert")
    with pytest.raises(StatisticsError, match="belong to another model.*qdeploy calibrate"):
        build_engine(bert.directory, tmp_path / "engine", statistics=other.statistics)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"strategy": "pegg"}, PlanError, "Did you mean 'peg'"),
        ({"target": "ort-cup"}, TargetError, "Did you mean 'ort-cpu'"),
        ({"scope": "gem"}, PlanError, "Did you mean 'gemm'"),
        ({"activations": "symetric"}, PlanError, "Did you mean 'symmetric'"),
        ({"groups": 0}, PlanError, "--groups is 0. Give a whole number from 1 to 32"),
        ({"statistics": "nowhere.npz"}, StatisticsError, "nowhere.npz does not exist"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_words_are_answered_with_the_nearest_one(
    options: dict[str, Any], error: type[Exception], text: str, bert: Source, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        build_engine(
            bert.directory, tmp_path / "engine", **({"statistics": bert.statistics} | options)
        )
    assert not list(tmp_path.iterdir())


def test_a_model_that_is_none(engine: Callable[..., Built], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="does not exist. Make the model directory"):
        build_engine(tmp_path / "nothing", tmp_path / "engine")
    with pytest.raises(ModelError, match="holds no qdeploy.json"):
        build_engine(tmp_path / "empty", tmp_path / "engine")
    with pytest.raises(ModelError, match="is of kind 'engine', and a model directory"):
        build_engine(engine(strategy="fp32").directory, tmp_path / "engine")


@pytest.fixture
def damaged(bert: Source, tmp_path: Path) -> Path:
    """A copy of the model directory, for the test to damage."""
    return Path(shutil.copytree(bert.directory, tmp_path / "damaged"))


def test_a_truncated_graph_is_refused(damaged: Path, tmp_path: Path) -> None:
    graph = damaged / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:2000])
    with pytest.raises(ModelError, match="is not the file that export wrote. Export"):
        build_engine(damaged, tmp_path / "engine", strategy="dynamic")
    _sign_again(damaged)
    with pytest.raises(ModelError, match="cannot be read as ONNX"):
        build_engine(damaged, tmp_path / "engine", strategy="dynamic")
    graph.unlink()
    with pytest.raises(ModelError, match="is missing. Export"):
        build_engine(damaged, tmp_path / "engine", strategy="dynamic")
    assert not (tmp_path / "engine").exists()


def test_a_weight_that_is_nan_is_named(damaged: Path, tmp_path: Path) -> None:
    model = ir.load(damaged / "model.onnx")
    name, value = next(
        (n, v) for n, v in model.graph.initializers.items() if n.endswith("LayerNorm.weight")
    )
    assert value.const_value is not None
    array = value.const_value.numpy().copy()
    array[3] = np.nan
    value.const_value = ir.Tensor(array, name=name)
    ir.save(model, damaged / "model.onnx")
    _sign_again(damaged)
    with pytest.raises(ModelError, match=f"weight {name} holds NaN"):
        build_engine(damaged, tmp_path / "engine", strategy="dynamic")


def _sign_again(directory: Path) -> None:
    write_manifest(directory, "model", read_json(directory / "qdeploy.json"))


def test_a_gemm_that_would_run_in_float_is_no_engine(
    bert: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fallback = {"site": "encoder.x", "kernel": "MatMul", "reason": "it computes in float"}
    monkeypatch.setattr(
        building, "certify", lambda *_: {"fallbacks": [fallback], "planned": 12, "executed": 11}
    )
    with pytest.raises(VerificationError, match=r"1 of 12 planned GEMMs.*encoder\.x: it computes"):
        build_engine(bert.directory, tmp_path / "engine", statistics=bert.statistics)
    assert not list(tmp_path.iterdir())


def test_a_listed_file_that_became_a_link_is_refused(bert: Source, tmp_path: Path) -> None:
    model = Path(shutil.copytree(bert.directory, tmp_path / "model"))
    (tmp_path / "config.json").write_bytes((model / "config.json").read_bytes())
    (model / "config.json").unlink()
    (model / "config.json").symlink_to("../config.json")
    with pytest.raises(ModelError, match=r"config\.json is a link"):
        build_engine(model, tmp_path / "engine", strategy="fp32", measure=False)


@pytest.mark.parametrize("text", ["8", "8x", "0x128", "8x128x2", "-1x8", "8 x 128", "axb"])
def test_a_shape_that_is_none_says_how_to_write_one(
    text: str, bert: Source, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match="for example 8x128"):
        build_engine(bert.directory, tmp_path / "engine", opt_shape=text)
    assert not (tmp_path / "engine").exists()
