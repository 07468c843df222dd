"""Engine directories: what is in them, and where it came from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qdeploy.autotune.timing import noise_of
from qdeploy.calibrate.options import CalibrationOptions
from qdeploy.calibrate.strategies import STRATEGIES
from qdeploy.data.reading import NOTE
from qdeploy.data.rows import read_rows, row_hashes
from qdeploy.data.tokenize import TextEncoder
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.open import open_engine
from qdeploy.errors import (
    DataError,
    PlanError,
    QDeployWarning,
)
from qdeploy.files.artifact import read_json, sha256_file
from tests.deploy.conftest import DATA, ROWS, Built, Source
from tests.deploy.tolerances import SAME_ENGINE

COMBINATIONS = [
    (strategy, scope)
    for strategy in sorted(set(STRATEGIES) - {"fp8", "fp16"})  # of GPU targets
    for scope in ("gemm", "all")
    if scope == "gemm" or strategy not in ("dynamic", "fp32")
]

OWN_FILES = {
    "model.onnx",
    "plan.json",
    "bom.cdx.json",
    "canary.json",
    "certificate.json",
    "qdeploy.json",
    "README.md",
    "predict.py",
}


# the tiny pooler is saturated: nearly all of its values lie on the edge that a percentile cuts at
@pytest.mark.filterwarnings("ignore:.*clip more than:qdeploy.errors.QDeployWarning")
@pytest.mark.parametrize(("strategy", "scope"), COMBINATIONS)
def test_each_strategy_builds_in_each_scope(
    strategy: str, scope: str, engine: Callable[..., Built], bert: Source
) -> None:
    built = engine(strategy=strategy, scope=scope)
    int8 = built.report["int8"]
    assert int8["executed"] == int8["planned"]
    assert not int8["fallbacks"]
    assert (int8["planned"] == 0) == (strategy == "fp32")
    manifest = read_json(built.directory / "qdeploy.json")
    assert (manifest["strategy"], manifest["scope"]) == (strategy, scope)
    assert manifest["target"] == "ort-cpu"
    (logits,) = open_engine(built.directory, threads=1).run(bert.feeds(2)).values()
    assert logits.shape == (2, 2)
    assert np.isfinite(logits).all()


def test_dynamic_has_no_scope_all(bert: Source, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="Use --scope gemm, or a static strategy"):
        build_engine(bert.directory, tmp_path / "engine", strategy="dynamic", scope="all")
    assert not list(tmp_path.iterdir())


def test_an_engine_directory_holds_exactly_these_files(
    engine: Callable[..., Built], bert: Source
) -> None:
    directory = engine(strategy="peg").directory
    companions = {"config.json", "tokenizer.json", "tokenizer_config.json"}
    assert companions <= {path.name for path in bert.directory.iterdir()}
    assert {path.name for path in directory.iterdir()} == OWN_FILES | companions
    for name in companions:
        assert (directory / name).read_bytes() == (bert.directory / name).read_bytes()


def test_the_manifest_tells_where_everything_came_from(
    engine: Callable[..., Built], bert: Source
) -> None:
    directory = engine(strategy="peg").directory
    manifest, model = (
        read_json(directory / "qdeploy.json"),
        read_json(bert.directory / "qdeploy.json"),
    )
    assert manifest["source"]["sha256"] == sha256_file(bert.directory / "model.onnx")
    assert manifest["files"] == {
        path.name: sha256_file(path) for path in directory.iterdir() if path.name != "qdeploy.json"
    }
    for key in ("labels", "task", "max_length", "pad_token_id", "inputs", "outputs", "model_type"):
        assert manifest[key] == model[key]
    rows = read_rows(DATA, task="qnli", split="calibration").sample(ROWS, 0)
    encoded = TextEncoder.from_directory(bert.directory).encode(rows, model["max_length"])
    assert manifest["calibration"] == {
        "data": rows.source,
        "data_hash": rows.content_hash(),
        "rows": ROWS,
        "seed": 0,
        **encoded.row_lengths.to_json(),
        "row_lengths": encoded.lengths.tolist(),
        "row_hashes": list(row_hashes(rows)),
    }
    assert manifest["options"]["grouping"] == "optimal"
    assert not manifest["dry_run"]


def test_a_strategy_without_statistics_names_no_calibration(engine: Callable[..., Built]) -> None:
    for strategy in ("fp32", "dynamic"):
        manifest = read_json(engine(strategy=strategy).directory / "qdeploy.json")
        assert manifest["calibration"] is None


def test_the_engine_runs_in_plain_onnxruntime(engine: Callable[..., Built], bert: Source) -> None:
    directory = engine(strategy="peg").directory
    session = ort.InferenceSession(directory / "model.onnx", providers=["CPUExecutionProvider"])
    feeds = bert.feeds()
    expected = open_engine(directory, threads=1).run(feeds)["logits"]
    np.testing.assert_allclose(session.run(["logits"], feeds)[0], expected, atol=SAME_ENGINE)


def test_fp32_is_the_exported_model(engine: Callable[..., Built], bert: Source) -> None:
    feeds = bert.feeds()
    session = ort.InferenceSession(
        bert.directory / "model.onnx", providers=["CPUExecutionProvider"]
    )
    found = open_engine(engine(strategy="fp32").directory, threads=1).run(feeds)["logits"]
    np.testing.assert_allclose(found, session.run(None, feeds)[0], atol=SAME_ENGINE)


def test_an_int8_engine_is_smaller_than_fp32(engine: Callable[..., Built]) -> None:
    sizes = {s: engine(strategy=s).report["size_mb"] for s in ("fp32", "peg", "w8a8")}
    # GEMM weights, half of a tiny model's bytes, shrink to a quarter; node names stay
    assert sizes["peg"] < 0.9 * sizes["fp32"]
    assert sizes["w8a8"] < 0.9 * sizes["fp32"]


@pytest.mark.parametrize("strategy", ["peg", "smoothquant"])
def test_the_same_inputs_give_the_same_bytes(
    strategy: str, engine: Callable[..., Built], bert: Source, tmp_path: Path
) -> None:
    first = engine(strategy=strategy, padding="auto").directory
    build_engine(bert.directory, tmp_path / "again", strategy=strategy, statistics=bert.statistics)
    for name in ("model.onnx", "plan.json"):  # the certificate holds times
        assert (tmp_path / "again" / name).read_bytes() == (first / name).read_bytes(), name


def test_calibration_runs_by_itself_and_says_which_data(bert: Source, tmp_path: Path) -> None:
    (bert.directory / NOTE).unlink(missing_ok=True)  # what another test was told to read
    with pytest.warns(QDeployWarning, match="No calibration data was named; qnli-mini"):
        build_engine(bert.directory, tmp_path / "engine", strategy="w8a8", calibration_rows=ROWS)
    manifest = read_json(tmp_path / "engine" / "qdeploy.json")
    assert manifest["calibration"]["rows"] == ROWS


def test_a_dry_run_leaves_the_graph_and_no_certificate(bert: Source, tmp_path: Path) -> None:
    report = build_engine(
        bert.directory, tmp_path / "dry", statistics=bert.statistics, dry_run=True
    )
    assert report["dry_run"] is True
    assert report["int8"] is None
    kernels = [node.op_type for node in ir.load(tmp_path / "dry" / "model.onnx").graph]
    assert "MatMulIntegerToFloat" in kernels
    certificate = read_json(tmp_path / "dry" / "certificate.json")
    names = {"planned_gemms", "other_products", "flops_measured", "processors"}
    assert set(certificate) == names


def test_progress_goes_through_all_stages(bert: Source, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    build_engine(
        bert.directory,
        tmp_path / "engine",
        statistics=bert.statistics,
        progress=lambda *step: seen.append(step),
    )
    assert seen == [
        ("plan", 0, 1), ("lower", 0, 1), ("write", 0, 1), ("certify", 0, 1), ("measure", 0, 1),
        ("measure", 1, 1)
    ]  # fmt: skip


def test_smoothquant_of_every_activation_is_no_worse_than_plain(
    engine: Callable[..., Built], bert: Source
) -> None:
    """Readers that are no GEMM must see the tensor scaled back, or noise drowns the signal."""
    feeds = bert.feeds()

    def logits(strategy: str, scope: str) -> Any:
        built = engine(strategy=strategy, scope=scope)
        return open_engine(built.directory, threads=1).run(feeds)["logits"]

    exact = logits("fp32", "gemm")
    noise = [np.square(logits(name, "all") - exact).sum() for name in ("smoothquant", "w8a8")]
    assert noise[0] <= 2 * noise[1]


def test_data_that_is_not_read_is_said(bert: Source, tmp_path: Path) -> None:
    with pytest.warns(QDeployWarning, match=r"--statistics is given: --data not read"):
        build_engine(bert.directory, tmp_path / "b", statistics=bert.statistics, data="nothere")


def test_noise_is_measured_on_the_rows_that_were_named(bert: Source, tmp_path: Path) -> None:
    """Whether a strategy calibrates or not, and whichever rows an earlier command was told."""
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"the king of {at},1\n" for at in range(40)))
    for strategy, options in (("dynamic", {}), ("fp16", {"target": "ort-cuda", "dry_run": True})):
        output = tmp_path / strategy
        built = build_engine(bert.directory, output, strategy=strategy, data=str(rows), **options)  # type: ignore[arg-type]
        assert (built["noise"]["data"], built["noise"]["rows"]) == (str(rows), 32)
        assert built["data"]["source"] == str(rows)
        kept = (
            noise_of(bert.directory, output, None, CalibrationOptions())
            if strategy == "dynamic"
            else None
        )
        assert kept is None or kept["data"] == str(rows)
    with pytest.raises(DataError, match=r"nothere.csv does not exist"):
        build_engine(bert.directory, tmp_path / "x", strategy="dynamic", data="nothere.csv")


def test_what_lies_beside_the_model_stays_there(
    bert: Source, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An engine is made to be given away: nothing travels but what the manifest lists."""
    model = Path(shutil.copytree(bert.directory, tmp_path / "model"))
    secret = tmp_path_factory.mktemp("elsewhere") / "passwd"
    secret.write_text("root:x")
    (model / ".env").write_text("SECRET=abc")
    (model / "pytorch_model.bin").write_bytes(bytes(1000))
    (model / "added_tokens.json").symlink_to(secret)
    (model / "notes").mkdir()
    (model / "notes" / "a.txt").write_text("mine")
    build_engine(model, tmp_path / "engine", strategy="fp32", measure=False)
    build_engine(bert.directory, tmp_path / "clean", strategy="fp32", measure=False)
    built, clean = ({p.name for p in (tmp_path / d).iterdir()} for d in ("engine", "clean"))
    assert built == clean


def test_the_plan_in_the_engine_is_plain_json(engine: Callable[..., Built]) -> None:
    plan = json.loads((engine(strategy="peg").directory / "plan.json").read_text("utf-8"))
    assert {"sites", "gemms", "tables", "channel_orders", "options"} <= set(plan)
    assert all(site["reason"] for site in plan["sites"])


def test_the_shape_is_in_manifest_and_certificate(engine: Callable[..., Built]) -> None:
    built = engine(strategy="w8a8", opt_shape="2x100")
    assert read_json(built.directory / "qdeploy.json")["opt_shape"] == [2, 100]
    assert built.report["int8"]["shape"] == [2, 100]
