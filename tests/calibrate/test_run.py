"""`calibrate` on a model directory: found again, never mixed up, and every damage told."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qdeploy.calibrate import run
from qdeploy.calibrate.model import load_model, model_digest
from qdeploy.calibrate.run import calibrate_model
from qdeploy.calibrate.statistics import Statistics
from qdeploy.data.rows import read_rows, row_hashes
from qdeploy.errors import DataError, ModelError, PlanError, QDeployWarning
from qdeploy.graph.sites import find_structure
from tests import manifests
from tests.calibrate.encoder import encoder, model_directory, sign


@pytest.fixture
def rows(tmp_path: Path) -> str:
    lines = ["index\tquestion\tsentence\tlabel"]
    lines += [
        f"{i}\twhich city number {i}?\tthe city is {'x ' * i}.\tentailment" for i in range(12)
    ]
    path = tmp_path / "rows.tsv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_statistics_of_a_model(model_dir: Path, rows: str) -> None:
    ticks: list[tuple[str, int, int]] = []
    path = calibrate_model(
        model_dir, data=rows, calibration_rows=8, progress=lambda *tick: ticks.append(tick)
    )
    assert path.parent == model_dir / "statistics" and path.suffix == ".npz"
    found = Statistics.load(path)
    sample = read_rows(rows, task="qnli", split="calibration").sample(8, 0)
    assert found.origin.rows == 8 and found.origin.seed == 0 and found.origin.max_length == 64
    assert found.origin.data_hash == sample.content_hash()
    assert list(found.origin.row_hashes) == row_hashes(sample)
    assert found.origin.model_sha256 == load_model(model_dir)[1]
    assert found.sites["first"].count == 8  # one classifier input per row
    assert ticks[-1] == ("calibrate", 8, 8)
    counted = [done for stage, done, _ in ticks if stage == "calibrate"]
    assert counted == sorted(counted) and counted[0] == 0


def test_the_limit_of_a_row_is_part_of_the_key(model_dir: Path, tmp_path: Path) -> None:
    """20 rows of about 10 tokens, and 4 of more than the model's 64."""
    path = tmp_path / "rows.tsv"
    texts = ["a city"] * 20 + ["x " * 100] * 4
    path.write_text("question\tsentence\n" + "".join(f"who?\t{text}\n" for text in texts))
    own = r"4 of 24 calibration rows \(16\.7 %\) have more than 64 tokens.*the model takes no more"
    with pytest.warns(QDeployWarning, match=own):
        usual = calibrate_model(model_dir, data=str(path), calibration_rows=24)
    lengths = Statistics.load(usual).origin.lengths
    assert (lengths.max_length, lengths.truncated, len(lengths.kept)) == (64, 4, 24)
    assert lengths.summary()["p95"] == 64 and max(lengths.kept) == 64
    said = r"more than 32 tokens and were cut there: --max-length says so.*up to 64\."
    with pytest.warns(QDeployWarning, match=said):
        shorter = calibrate_model(model_dir, data=str(path), calibration_rows=24, max_length=32)
    assert shorter != usual and Statistics.load(shorter).origin.max_length == 32
    with pytest.warns(QDeployWarning, match=said):  # found again, and said again
        assert (
            calibrate_model(model_dir, data=str(path), calibration_rows=24, max_length=32)
            == shorter
        )
    with pytest.warns(QDeployWarning, match=own):
        assert (
            calibrate_model(model_dir, data=str(path), calibration_rows=24, max_length=64) == usual
        )
    with pytest.raises(PlanError, match="--max-length is 65, and the model takes at most 64"):
        calibrate_model(model_dir, data=str(path), calibration_rows=24, max_length=65)


def test_long_rows_are_observed_in_small_batches(rows: str, tmp_path: Path) -> None:
    directory = model_directory(tmp_path / "long")
    manifests.edit(directory, "model", max_length=2048)
    path = tmp_path / "rows.tsv"
    texts = [count * "x " for count in (400, 400, 300, 150, 150, 20, 20, 20)]
    path.write_text("question\tsentence\n" + "".join(f"who?\t{text}\n" for text in texts))
    shapes: list[tuple[int, ...]] = []

    def observer(_: Path, batches: Any, products: bool) -> dict[str, Any]:
        shapes.extend(batch["input_ids"].shape for batch in batches)
        return {}

    calibrate_model(directory, data=str(path), calibration_rows=8, observer=observer)
    assert sum(rows for rows, _ in shapes) == 8 and max(width for _, width in shapes) > 400
    for count, width in shapes:
        assert count == 1 or count * width <= run.BATCH_TOKENS
        assert count == 1 or count * width**2 <= run.BATCH_PAIRS


def test_rows_of_one_text(model_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text("text\n" + "\n".join(f"a film of {i} hours" for i in range(6)) + "\n")
    found = Statistics.load(
        calibrate_model(model_dir, data=str(path), task="text", calibration_rows=6)
    )
    assert found.origin.rows == 6
    with pytest.raises(DataError, match="no column 'question'"):
        calibrate_model(model_dir, data=str(path), task="qnli", calibration_rows=6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"task": "sst2"}, DataError, "Task sst2 with these columns has no embedded rows"),
        ({"columns": "question=x"}, DataError, "Task qnli with these columns has no embedded rows"),
        ({"task": "nonsense"}, PlanError, "Unknown task 'nonsense'"),
    ],
)
def test_another_task_needs_data(
    model_dir: Path, options: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        calibrate_model(model_dir, calibration_rows=4, **options)  # type: ignore[arg-type]


def test_the_stand_in_data_is_said(model_dir: Path) -> None:
    with pytest.warns(QDeployWarning, match="No calibration data was named; qnli-mini"):
        path = calibrate_model(model_dir, calibration_rows=4)
    assert Statistics.load(path).origin.data == "qnli-mini"


def test_found_again_without_a_second_pass(
    model_dir: Path, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = calibrate_model(model_dir, data=rows, calibration_rows=8)
    before = path.stat().st_mtime_ns

    def observed(*_: Any, **__: Any) -> None:
        raise AssertionError("a second pass")

    monkeypatch.setattr("qdeploy.calibrate.observe.observe", observed)
    assert calibrate_model(model_dir, data=rows, calibration_rows=8) == path
    assert path.stat().st_mtime_ns == before
    for count, seed in ((7, 0), (8, 1)):
        with pytest.raises(AssertionError, match=r"a second pass"):
            calibrate_model(model_dir, data=rows, calibration_rows=count, seed=seed)


def test_second_moments_are_added_once(model_dir: Path, rows: str) -> None:
    path = calibrate_model(model_dir, data=rows, calibration_rows=8)
    assert not Statistics.load(path).has_products
    assert calibrate_model(model_dir, data=rows, calibration_rows=8, second_moments=True) == path
    found = Statistics.load(path)
    structure = find_structure(load_model(model_dir)[0])
    wide = {site.tensor for site in structure.sites if site.channels > 1}
    inputs = {gemm.input for gemm in structure.gemms} & wide
    assert {name for name, site in found.sites.items() if site.products is not None} == inputs
    before = path.stat().st_mtime_ns
    calibrate_model(model_dir, data=rows, calibration_rows=8)  # more than was asked for
    assert path.stat().st_mtime_ns == before


def test_damaged_statistics_are_made_anew(model_dir: Path, rows: str) -> None:
    path = calibrate_model(model_dir, data=rows, calibration_rows=8)
    path.write_bytes(path.read_bytes()[:3000])
    assert calibrate_model(model_dir, data=rows, calibration_rows=8) == path
    assert Statistics.load(path).origin.rows == 8


def test_the_key_is_of_content(tmp_path: Path, model_dir: Path, rows: str) -> None:
    first = calibrate_model(model_dir, data=rows, calibration_rows=4)
    copy = tmp_path / "copy.tsv"
    copy.write_text(Path(rows).read_text())
    assert calibrate_model(model_dir, data=str(copy), calibration_rows=4) == first
    copy.write_text(Path(rows).read_text().replace("city", "river"))
    assert calibrate_model(model_dir, data=str(copy), calibration_rows=4) != first
    other = model_directory(tmp_path / "other", encoder(seed=1))
    assert calibrate_model(other, data=rows, calibration_rows=4).name != first.name


def test_batches_do_not_change_statistics(
    model_dir: Path, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = Statistics.load(calibrate_model(model_dir, data=rows, calibration_rows=12))
    (model_dir / "statistics").rename(model_dir / "old")
    monkeypatch.setattr(run, "BATCH_TOKENS", 64)
    few = Statistics.load(calibrate_model(model_dir, data=rows, calibration_rows=12))
    for tensor, site in many.sites.items():
        assert site.count == few.sites[tensor].count, tensor
        np.testing.assert_allclose(site.maximum, few.sites[tensor].maximum, rtol=1e-3, atol=1e-3)


def test_fewer_rows_than_asked_for_warns(model_dir: Path, rows: str) -> None:
    with pytest.warns(QDeployWarning, match=r"rows.tsv has 12 calibration rows, and 13 were asked"):
        path = calibrate_model(model_dir, data=rows, calibration_rows=13)
    assert Statistics.load(path).origin.rows == 12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate_model(model_dir, data=rows, calibration_rows=12)


def test_no_rows_at_all(model_dir: Path, rows: str) -> None:
    with pytest.raises(PlanError, match=r"--calibration-rows is 0. Give a whole number from 1 up"):
        calibrate_model(model_dir, data=rows, calibration_rows=0)


# What is refused


def test_no_model_directory(tmp_path: Path, model_dir: Path, rows: str) -> None:
    with pytest.raises(
        ModelError, match=r"does not exist. Make the model directory with `qdeploy e"
    ):
        calibrate_model(tmp_path / "none", data=rows)
    with pytest.raises(
        ModelError, match=r"it holds no qdeploy.json. Make one with `qdeploy export`"
    ):
        calibrate_model(tmp_path, data=rows)
    manifest = model_dir / "qdeploy.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"kind": "engine"}))
    with pytest.raises(ModelError, match=r"of kind 'engine', and a model directory was expected"):
        calibrate_model(model_dir, data=rows)


@pytest.mark.parametrize("call", [load_model, model_digest, calibrate_model])
def test_a_file_that_export_did_not_write(model_dir: Path, call: Callable[..., Any]) -> None:
    options = {"data": "qnli-mini"} if call is calibrate_model else {}
    graph = model_dir / "model.onnx"
    graph.write_bytes(graph.read_bytes() + b" ")
    with pytest.raises(
        ModelError, match=r"model.onnx is not the file that export wrote. Export th"
    ):
        call(model_dir, **options)
    graph.unlink()
    with pytest.raises(ModelError, match=r"model.onnx is missing. Export the checkpoint again"):
        call(model_dir, **options)


def test_weights_beside_the_graph_count(tmp_path: Path) -> None:
    """Above 1.5 GB weights stand in model.onnx.data, and two models' graph files may be equal."""
    found = {}
    for seed in (0, 1):
        model = encoder()
        weight = model.graph.initializers["layer.1.up.weight"]
        array = np.full((16, 32), 1 + seed, np.float32)
        weight.const_value = ir.tensor(array, name=weight.name)
        path = model_directory(tmp_path / f"{seed}")
        ir.save(model, path / "model.onnx", external_data="model.onnx.data")
        sign(path)
        found[seed] = load_model(path)[1]
    graphs = [(tmp_path / s / "model.onnx").read_bytes() for s in "01"]
    assert graphs[0] == graphs[1] and found[0] != found[1]
    weights = tmp_path / "0" / "model.onnx.data"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ModelError, match=r"model.onnx.data is not the file that export wrote"):
        load_model(tmp_path / "0")
    weights.unlink()
    with pytest.raises(ModelError, match=r"model.onnx.data is missing"):
        load_model(tmp_path / "0")


@pytest.mark.parametrize("damage", ["text", "cut", "empty"])
def test_a_broken_graph_with_a_matching_manifest(model_dir: Path, damage: str) -> None:
    graph = model_dir / "model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes({"text": b"this is no graph", "cut": whole[:3000], "empty": b""}[damage])
    sign(model_dir)
    with pytest.raises(ModelError, match=r"cannot be read as ONNX|no matrix product"):
        calibrate_model(model_dir, data="qnli-mini", calibration_rows=4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_no_number(tmp_path: Path, value: float) -> None:
    model = encoder()
    weight = model.graph.initializers["layer.1.up.weight"]
    array = np.ones((16, 32), np.float32)
    array[3, 4] = value
    weight.const_value = ir.tensor(array, name=weight.name)
    path = model_directory(tmp_path / "bad", model)
    with pytest.raises(ModelError, match=r"weight layer\.1\.up\.weight holds NaN or infinity"):
        load_model(path)


def test_statistics_that_cannot_be_written(
    model_dir: Path, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir

    def read_only(path: Path, *more: Any, **options: Any) -> None:
        if path.parent == model_dir:  # as root nothing is read-only, so by hand
            raise PermissionError(13, "Permission denied")
        make(path, *more, **options)

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(ModelError, match=r"npz cannot be written: Permission denied.*writable, or"):
        calibrate_model(model_dir, data=rows, calibration_rows=4)
    monkeypatch.undo()
    (model_dir / "statistics").write_text("a file stands in the way")
    with pytest.raises(ModelError, match=r"statistics is something else than the stat"):
        calibrate_model(model_dir, data=rows, calibration_rows=4)
