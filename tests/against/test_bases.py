"""What stands as FP32 in a comparison: a file that is rebuilt, rounded ones, FP16, one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from tokenizers import Tokenizer

import qdeploy
from qdeploy.cli.comparison import show
from qdeploy.data.rows import read_rows
from qdeploy.errors import ModelError
from qdeploy.files.artifact import read_manifest, sha256_file
from qdeploy.schemas.comparison import FileComparison
from tests import foreign_files as foreign
from tests.documents import assert_is
from tests.exports import Exports
from tests.sentence_models import sentence_checkpoint

# random weights may answer with one class; what is said of it stands in the report
pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")


def test_a_file_is_exported_and_rebuilt(tmp_path: Path, exported: Exports) -> None:
    """FP32 is a TorchScript file, and the engine stands beside it and the other."""
    checkpoint = exported().checkpoint
    exact = foreign.torchscript(checkpoint, tmp_path / "model.onnx")
    file = foreign.dynamic_int8(exact, tmp_path / "model_quantized.onnx")
    every = read_rows("qnli-mini", limit=24)
    assert every.second is not None
    lines = ["text\ttext_pair", *map("\t".join, zip(every.first, every.second, strict=True))]
    (tmp_path / "rows.tsv").write_text("\n".join(lines) + "\n")
    engine = tmp_path / "engine"
    report = qdeploy.inspect_against(
        file, exact, data=tmp_path / "rows.tsv", rebuild=engine, tokenizer=checkpoint
    )
    assert_is(report, FileComparison)
    assert [one["name"] for one in report["subjects"]] == ["FP32", "file", "rebuilt"]
    assert report["rebuilt"] is not None and report["rebuilt"]["calibration_rows"] == 12
    assert report["data"]["n"] == 12 and report["data"]["left_out"] == 12
    manifest = read_manifest(engine, "engine")
    assert manifest["origin"]["sha256"] == sha256_file(exact)
    assert report["subjects"][2]["int8_share"] > 0.9
    answers = [one["answers"] for one in report["subjects"]]
    assert answers[0] is None and answers[2] is not None and answers[2]["sqnr_db"] > 5


def test_a_repository_that_holds_onnx_alone(file: Path, exact: Path) -> None:
    """Its file stands in a folder of its own, and the tokenizer above it."""
    found, same = (
        qdeploy.inspect_against(file, base, data="qnli-mini", limit=4)["subjects"][1]["answers"]
        for base in (exact.parents[1], exact)
    )
    assert found is not None and found == same


def test_weights_in_four_bits(file: Path, exact: Path, tmp_path: Path) -> None:
    rounded = foreign.four_bits(exact, tmp_path / "q4.onnx")
    report = qdeploy.inspect_against(rounded, exact, data="qnli-mini", limit=4)
    answers = report["subjects"][1]["answers"]
    assert answers is not None and 0 < answers["sqnr_db"] < 60
    assert report["found"]["int8"]["unplanned"][0]["reason"].startswith("MatMulNBits stores its we")
    with pytest.raises(ModelError, match=r"is quantized itself: it has \d+ MatMulNBits nodes"):
        qdeploy.inspect_against(file, rounded, data="qnli-mini", tokenizer=exact.parents[1])


@pytest.mark.parametrize("keeps_types", [True, False])
def test_half_precision(
    keeps_types: bool,
    file: Path,
    exact: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    halved = foreign.half(exact, tmp_path / "fp16.onnx", keeps_types=keeps_types)
    report = qdeploy.inspect_against(halved, exact, data="qnli-mini", limit=4)
    answers = report["subjects"][1]["answers"]
    assert answers is not None and answers["sqnr_db"] > 30
    report = qdeploy.inspect_against(
        file, halved, data="qnli-mini", limit=4, tokenizer=exact.parents[1]
    )
    products = report["products"]
    assert products is not None and products["products"] == []
    assert all("fp16.onnx is in FP16" in one["reason"] for one in products["not_matched"])
    assert any("name an FP32 file" in text for text in report["warnings"])
    capsys.readouterr()
    show(report)
    assert capsys.readouterr().out.count("not known") == 1 < len(products["not_matched"])


def test_one_size(tmp_path: Path, exported: Exports) -> None:
    checkpoint = exported().checkpoint
    exact = foreign.torchscript(checkpoint, tmp_path / "model.onnx", free=(), size=(1, 32))
    file = foreign.dynamic_int8(exact, tmp_path / "q.onnx")
    with pytest.raises(ModelError, match=r"takes batches of \[1,32\] alone.*with dynamic axes"):
        qdeploy.inspect_against(file, exact, data="qnli-mini", tokenizer=checkpoint)


@pytest.mark.parametrize("says", [True, False])
def test_vectors_of_tokens_are_pooled(says: bool, tmp_path: Path) -> None:
    """As modules.json says, or by their mean."""
    home = sentence_checkpoint(tmp_path / "st", pooling="cls", parts=("Normalize",))
    exact = foreign.torchscript(home, home / "model.onnx", "sentence-embedding")
    file = foreign.dynamic_int8(exact, tmp_path / "q.onnx")
    if not says:
        (home / "modules.json").unlink()
    texts = list(read_rows("qnli-mini", limit=6).first)
    (tmp_path / "rows.tsv").write_text("\n".join(["text", *texts]) + "\n")
    report = qdeploy.inspect_against(
        file, exact, data=tmp_path / "rows.tsv", batch_size=1, tokenizer=home
    )
    assert_is(report, FileComparison)
    answers, products = report["subjects"][1]["answers"], report["products"]
    assert answers is not None and products is not None and len(products["products"]) > 10
    encode = Tokenizer.from_file(str(home / "tokenizer.json"))
    sides = []
    for one in (exact, file):
        session, rows = ort.InferenceSession(one), []
        for text in texts:
            ids = np.array([encode.encode(text).ids])
            feeds = {"input_ids": ids, "attention_mask": ids**0, "token_type_ids": ids * 0}
            found = session.run(["last_hidden_state"], feeds)[0][0]
            row = found[0] / np.linalg.norm(found[0]) if says else found.mean(axis=0)
            rows.append(row)
        sides.append(np.stack(rows))
    assert answers["max_abs_diff"] == pytest.approx(np.abs(sides[0] - sides[1]).max(), rel=1e-3)
