"""Figures of a foreign file against plain ONNX Runtime and numpy, on tiny encoders of two sizes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from tokenizers import Tokenizer

import qdeploy
from qdeploy.data.rows import Rows, read_rows
from qdeploy.schemas.comparison import FileComparison
from tests.against.files import KINDS, LABELS, changed, hub, quantized, with_weight
from tests.calibrate.encoder import MAX_LENGTH
from tests.documents import assert_is
from tests.tolerances import PRODUCT_ALONE_DB

# random weights may answer with one class; what is said of it stands in the report
pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
ROWS = 24
BIAS = np.array([90, 0], np.float32)
SIZES = (1, 3)  # layers


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """FP32 files by their number of layers."""
    home = tmp_path_factory.mktemp("hub")
    return {layers: hub(home / str(layers), layers) for layers in SIZES}


def logits_of(file: Path, rows: Rows, tokenizer: Path) -> Any:
    """Row by row, without padding and without any code of the project."""
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    encode = Tokenizer.from_file(str(tokenizer))
    encode.enable_truncation(MAX_LENGTH, strategy="longest_first")
    found = []
    for pair in zip(rows.first, rows.second or (), strict=True):
        ids = np.array([encode.encode(*pair).ids])
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        found.append(session.run(["logits"], feeds)[0][0])
    return np.stack(found).astype(np.float64)


def batch_of(file: Path, exact: Path, rows: int = 8) -> Any:
    """The same of the first rows as one batch, padded to the longest."""
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    encode = Tokenizer.from_file(str(exact.parents[1] / "tokenizer.json"))
    encode.enable_truncation(MAX_LENGTH, strategy="longest_first")
    encode.enable_padding()
    some = read_rows("qnli-mini", limit=rows)
    found = encode.encode_batch(list(zip(some.first, some.second or (), strict=True)))
    feeds = {
        "input_ids": np.array([one.ids for one in found]),
        "attention_mask": np.array([one.attention_mask for one in found]),
    }
    return session.run(["logits"], feeds)[0].astype(np.float64)


def level(exact: Any, other: Any) -> float:
    """SQNR of logits that exclude each other, dB."""
    return 10 * math.log10(np.square(exact - exact.mean()).sum() / np.square(exact - other).sum())


@pytest.mark.parametrize("layers", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_those_of_plain_onnx_runtime(
    files: dict[int, Path], kind: str, layers: int, tmp_path: Path
) -> None:
    exact = files[layers]
    file = quantized(exact, kind, tmp_path / "quantized.onnx")
    report = qdeploy.inspect_against(file, exact, data="qnli-mini", limit=ROWS, batch_size=1)
    assert_is(report, FileComparison)
    rows = read_rows("qnli-mini", limit=ROWS)
    tokenizer = exact.parents[1] / "tokenizer.json"
    reference, own = (logits_of(one, rows, tokenizer) for one in (exact, file))
    gold = np.array([LABELS.index(label) for label in rows.labels or ()])
    answers = report["subjects"][1]["answers"]
    assert answers is not None
    same = reference.argmax(axis=1) == own.argmax(axis=1)
    assert answers["agreement"] == pytest.approx(same.mean())
    assert answers["sqnr_db"] == pytest.approx(level(reference, own), abs=1e-2)
    assert answers["max_abs_diff"] == pytest.approx(np.abs(reference - own).max(), rel=1e-3)
    right = [float((one.argmax(axis=1) == gold).mean()) for one in (reference, own)]
    assert [one["metrics"]["accuracy"] for one in report["subjects"]] == pytest.approx(right)
    assert answers["drop"] == pytest.approx(right[0] - right[1])
    assert report["subjects"][1]["size_mb"] == file.stat().st_size / 1e6
    assert report["subjects"][1]["int8_share"] == report["found"]["int8"]["flops_share"] > 0.3
    products = report["products"]
    assert products is not None and products["not_matched"] == []
    gemms = [one for one in products["products"] if one["of"] != "logits/Gemm"]
    assert len(gemms) == 6 * layers
    assert all(one["product"].startswith(one["of"]) for one in gemms)


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_alone_is_as_noisy_as_a_file_of_it_alone(
    files: dict[int, Path], kind: str, tmp_path: Path
) -> None:
    """The quantizer itself is told to quantize one node, with the same calibration.

    In Q/DQ form it rounds an input for everybody who reads it, the residual sum too: there only a
    product whose input nobody else reads is the same.
    """
    exact = files[1]
    file = quantized(exact, kind, tmp_path / "quantized.onnx")
    report = qdeploy.inspect_against(file, exact, data="qnli-mini", limit=8, batch_size=8)
    products = report["products"]
    assert products is not None
    reference = batch_of(exact, exact)
    known = {one["of"]: one["alone_db"] for one in products["products"]}
    pairs = kind.startswith("qdq")
    for part in ("down",) if pairs else ("up", "down"):
        name = f"layer.0.{part}.product/MatMul"
        alone = batch_of(quantized(exact, kind, tmp_path / "one.onnx", [name]), exact)
        assert known[name] == pytest.approx(level(reference, alone), abs=PRODUCT_ALONE_DB)
    together = level(reference, batch_of(file, exact))
    if pairs:
        assert products["together_db"] > together
    else:
        assert products["together_db"] == pytest.approx(together, abs=PRODUCT_ALONE_DB)


def test_products_are_found_under_other_names_and_in_another_order(
    files: dict[int, Path], tmp_path: Path
) -> None:
    import onnx_ir as ir

    file = quantized(files[3], "qdq-channel", tmp_path / "quantized.onnx")
    model = ir.load(file)
    for at, node in enumerate(model.graph):
        node.name = f"n{at}"
    for at, value in enumerate(list(model.graph.initializers.values())):
        value.name = f"w{at}"
    ir.save(model, tmp_path / "renamed.onnx")
    plain, renamed = (
        qdeploy.inspect_against(one, files[3], data="qnli-mini", limit=4)["products"]
        for one in (file, tmp_path / "renamed.onnx")
    )
    assert plain is not None and renamed is not None
    assert [one["of"] for one in renamed["products"]] == [one["of"] for one in plain["products"]]
    levels = [[one["alone_db"] for one in each["products"]] for each in (plain, renamed)]
    assert levels[0] == pytest.approx(levels[1])


def test_a_product_of_scaled_weights_is_not_guessed(files: dict[int, Path], tmp_path: Path) -> None:
    """A factor per channel, as of SmoothQuant, makes another product of it."""
    factors = np.linspace(0.6, 1.6, 16, dtype=np.float32)[:, None]
    other = changed(tmp_path / "other", with_weight("layer.0.up.weight", lambda w: w * factors))
    file = quantized(other, "dynamic-channel", tmp_path / "quantized.onnx")
    base = hub(tmp_path / "base")
    report = qdeploy.inspect_against(file, base, data="qnli-mini", limit=4)
    products = report["products"]
    assert products is not None
    (unknown,) = products["not_matched"]  # the classifier stands among the others
    assert "layer.0.up" in unknown["product"] and "of no product" in unknown["reason"]
    assert len(products["products"]) == 12
    assert any("is not known" in text for text in report["warnings"])


def test_a_constant_predictor_is_called_out(files: dict[int, Path], tmp_path: Path) -> None:
    other = changed(tmp_path / "o", with_weight("classifier.bias", lambda b: b + BIAS), 1)
    file = quantized(other, "dynamic-tensor", tmp_path / "quantized.onnx")
    report = qdeploy.inspect_against(file, files[1], data="qnli-mini", limit=ROWS)
    answers = report["subjects"][1]["answers"]
    assert answers is not None and answers["constant_predictor"]
    assert any("CONSTANT PREDICTOR" in text for text in report["warnings"])


def test_what_is_rebuilt_is_compared_on_rows_that_calibrated_nothing(
    files: dict[int, Path], tmp_path: Path
) -> None:
    from qdeploy.data.rows import row_hashes
    from qdeploy.files.artifact import read_manifest
    from tests.calibrate.encoder import model_directory

    model = model_directory(tmp_path / "model")
    file = quantized(model / "model.onnx", "qdq-tensor", tmp_path / "quantized.onnx")
    every = read_rows("qnli-mini", limit=40)
    assert every.second is not None and every.labels is not None
    lines = zip(every.first, every.second, every.labels, strict=True)
    data = tmp_path / "rows.tsv"
    data.write_text("question\tsentence\tlabel\n" + "".join("\t".join(x) + "\n" for x in lines))
    report = qdeploy.inspect_against(file, model, data=data, rebuild=tmp_path / "engine")
    assert_is(report, FileComparison)
    calibration = read_manifest(tmp_path / "engine", "engine")["calibration"]
    assert calibration is not None and report["rebuilt"] is not None
    assert report["rebuilt"]["calibration_rows"] == 20 and report["data"]["left_out"] == 20
    assert report["data"]["n"] == 20
    compared = read_rows(data, task=report["task"])
    kept = [name for name in row_hashes(compared) if name not in calibration["row_hashes"]]
    assert len(kept) == 20
    assert [one["name"] for one in report["subjects"]] == ["FP32", "file", "rebuilt"]
    assert all(one["latency_ms"]["p50"] > 0 for one in report["subjects"])
    assert report["subjects"][2]["speedup"]["ratio"] > 0
