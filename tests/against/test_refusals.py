"""Files that are not of one model are refused with what differs, and nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import qdeploy
from qdeploy.cli import main
from qdeploy.deploy.foreign_engine import ForeignEngine
from qdeploy.errors import DataError, ModelError, OutputError, PlanError, RunError
from tests.against.files import changed, quantized, with_weight
from tests.calibrate.encoder import HIDDEN, feeds

# random weights may answer with one class; what is said of it stands in the report
pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")


def _another_input(model: ir.Model) -> None:
    shape, kind = ir.Shape(["batch", "sequence"]), ir.TensorType(ir.DataType.INT64)
    model.graph.inputs.append(ir.Value(name="token_type_ids", shape=shape, type=kind))


def _classes(model: ir.Model) -> None:
    with_weight("classifier.weight", lambda w: np.zeros((3, HIDDEN), np.float32))(model)
    with_weight("classifier.bias", lambda b: np.zeros(3, np.float32))(model)
    model.graph.outputs[0].shape = ir.Shape(["batch", 3])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_another_input, "it takes input_ids, attention_mask and not input_ids, attention_mask, "),
        (with_weight("embeddings.words.weight", lambda w: w[:900]), "embeds 1100 tokens and not 9"),
        (_classes, "gives 2 numbers as logits and not 3"),
    ],
)
def test_another_model(
    change: Callable[[ir.Model], None], text: str, file: Path, tmp_path: Path
) -> None:
    other = changed(tmp_path / "other", change, 1)
    with pytest.raises(ModelError, match=text) as raised:
        qdeploy.inspect_against(file, other, data="qnli-mini", html=tmp_path / "page.html")
    assert "is not of the model of" in str(raised.value) and "--against" in str(raised.value)
    assert not (tmp_path / "page.html").exists()


def test_swapped_arguments(file: Path, exact: Path) -> None:
    with pytest.raises(ModelError, match="The two are swapped"):
        qdeploy.inspect_against(exact, file, data="qnli-mini")
    with pytest.raises(ModelError, match="quantized itself: 7 of its products"):
        other = quantized(exact, "qdq-tensor", file.parent / "other.onnx")
        qdeploy.inspect_against(other, file, data="qnli-mini")
    with pytest.raises(ModelError, match="against itself"):
        qdeploy.inspect_against(exact, exact, data="qnli-mini")


def test_no_tokenizer(file: Path, exact: Path, tmp_path: Path) -> None:
    alone = tmp_path / "model.onnx"
    alone.write_bytes(exact.read_bytes())
    with pytest.raises(ModelError, match=r"No tokenizer.json in .* with --tokenizer DIR"):
        qdeploy.inspect_against(file, alone, data="qnli-mini")
    report = qdeploy.inspect_against(
        file, alone, data="qnli-mini", limit=4, tokenizer=exact.parents[1]
    )
    assert report["tokenizer"] == str(exact.parents[1])


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (
            {"0": "a", "1": "b", "2": "c"},
            r"names 3 classes \(a, b, c\), and the graph gives 2 logits",
        ),
        ({"1": "a", "2": "b"}, r"counts its classes as 1, 2, and they are counted from 0"),
    ],
)
def test_a_configuration_of_other_classes(
    names: dict[str, str], fault: str, file: Path, exact: Path, tmp_path: Path
) -> None:
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_bytes((exact.parents[1] / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = names
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=fault):
        qdeploy.inspect_against(file, exact, data="qnli-mini", tokenizer=tmp_path)


def test_labels_of_other_classes(file: Path, exact: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\nsome text,good\nmore text,bad\n")
    with pytest.raises(DataError, match="the class 'good', and the model knows entailment"):
        qdeploy.inspect_against(file, exact, data=tmp_path / "rows.csv")


def test_an_engine_directory_that_is_there(file: Path, exact: Path, tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "mine").write_text("")
    with pytest.raises(OutputError, match="engine"):
        qdeploy.inspect_against(file, exact, data="qnli-mini", rebuild=tmp_path / "engine")


def test_a_graph_that_stops_is_an_error_of_the_file(exact: Path, tmp_path: Path) -> None:
    engine = ForeignEngine(exact, threads=1)
    try:
        assert engine.run(feeds(2, 6))["logits"].shape == (2, 2)
        with pytest.raises(RunError, match=r"model.onnx does not run: .*out of .*bounds"):
            engine.run({name: one + 10**6 for name, one in feeds(2, 6).items()})
        with pytest.raises(PlanError, match="no engine directory"):
            engine.profile(feeds(2, 6))
    finally:
        engine.close()


def test_a_process_that_ends_is_told(exact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, sys; print('no luck', file=sys.stderr); sys.stderr.flush(); os.abort()"
    monkeypatch.setattr("qdeploy.deploy.foreign_engine._START", code)
    with pytest.raises(RunError, match=r"the process that ran it ended \(no luck\)"):
        ForeignEngine(exact, threads=1)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('{"arrays": [["logits", "float32", [1099511627776]]]}', "an array of 4398046511104 bytes"),
        ('{"arrays": [["logits", "float32", [-2, -3]]]}', "an array of 24 bytes"),
        ('{"arrays": [["logits", "object", [1]]]}', "numbers of type object"),
        ('{"arrays": [["logits", "float32", [1.5]]]}', "Expected `int`, got `float`"),
        ('{"arrays": [["logits", "float32"]]}', "length 3"),
        ('{"arrays": [], "inputs": 3}', "Expected `array`, got `int`"),
        ('{"arrays": [], "error": {}}', "Expected `str"),
        ('{"inputs": []}', "missing required field `arrays`"),
        ("[]", "Expected `object`, got `array`"),
        ("null", "Expected `object`, got `null`"),
        ("hello", "JSON is malformed"),
        ("[" * 60_000, "no answer"),
        ('{"arrays": [], "more": ' + "[" * 60_000, "no answer"),
    ],
)
def test_lies_of_the_process_are_refused(
    exact: Path, monkeypatch: pytest.MonkeyPatch, line: str, fault: str
) -> None:
    """What the process says is never more than numbers of known types and a bounded size."""
    code = f"import sys; sys.stdout.write({line + chr(10)!r}); sys.stdout.flush()"
    if len(line) > 1000:
        code = f"import sys; print({line[:30]!r} + '[' * 60_000)"
    monkeypatch.setattr("qdeploy.deploy.foreign_engine._START", code)
    with pytest.raises(RunError, match="gave what is no answer .* take it anew from") as caught:
        ForeignEngine(exact, threads=1)
    assert fault in str(caught.value) and len(str(caught.value)) < 700


def test_the_command(file: Path, exact: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    page, told = tmp_path / "page.html", tmp_path / "told.json"
    words = ["inspect", str(file), "--against", str(exact), "--data", "qnli-mini", "--limit", "12"]
    assert main([*words, "--html", str(page), "--json", str(told), "-v"]) == 0
    shown = capfd.readouterr().out
    assert "agreement, %" in shown and "INT8" in shown and "L0 up" in shown
    report = json.loads(told.read_text())
    assert report["kind"] == "comparison" and report["data"]["n"] == 12
    text = page.read_text()
    assert "What each INT8 product costs" in text and "http" not in text.replace("http-equiv", "")


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--limit", "3"], "--limit goes with --against FP32"),
        (["--html", "page.html"], "--html goes with --against FP32"),
        (["--against", "x.onnx", "--target", "tensorrt"], "--target does not go with --against"),
    ],
)
def test_options_that_do_not_go_together(
    flags: list[str], text: str, exact: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(exact), *flags]) == 2
    assert text in capfd.readouterr().err
