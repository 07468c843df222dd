"""Bundles as files: what each holds, what is refused, and that the graph still says the same."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from tokenizers import Tokenizer

import qdeploy
from qdeploy.bundles.formats import FORMATS
from qdeploy.cli import main
from qdeploy.errors import OutputError, PlanError
from qdeploy.types import Array
from tests.bundles.conftest import TEXTS
from tests.modules import importing

GRAPHS = {
    "sentence-transformers": "onnx/model.onnx",
    "optimum": "model.onnx",
    "tei": "onnx/model.onnx",
    "transformers-js": "onnx/model_quantized.onnx",
    "fastapi": "model.onnx",
    "triton": "models/{engine}_graph/1/model.onnx",
}


def feeds(directory: Path, inputs: list[str]) -> dict[str, Array]:
    """Each text as a row, padded on the right."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.enable_padding()
    found = tokenizer.encode_batch(TEXTS)
    fields = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    return {n: np.array([getattr(f, fields[n]) for f in found], np.int64) for n in inputs}


def run(path: Path, directory: Path) -> Mapping[str, Array]:
    session = onnxruntime.InferenceSession(path)
    given = feeds(directory, [value.name for value in session.get_inputs()])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


@pytest.mark.parametrize("form", GRAPHS)
@pytest.mark.parametrize("head", ["embeds", "classes"])
def test_the_graph_says_the_same_under_the_names_of_the_format(
    head: str, form: str, engines: Path, tmp_path: Path
) -> None:
    engine = engines / f"{head}-ort-cpu"
    found = qdeploy.bundle(engine, tmp_path / "out", format=form)
    assert found["format"] == form
    graph = tmp_path / "out" / GRAPHS[form].format(engine=engine.name)
    own, theirs = run(engine / "model.onnx", engine), run(graph, engine)
    if head == "classes" or form in ("fastapi", "triton"):
        assert list(theirs) == list(own)
        assert all(np.array_equal(own[name], theirs[name]) for name in own)
    else:
        assert list(theirs) == ["last_hidden_state"]
        assert np.array_equal(theirs["last_hidden_state"], own["token_embeddings"])


def test_modules_of_an_embedding_model(engines: Path, tmp_path: Path) -> None:
    qdeploy.bundle(engines / "embeds-ort-cpu", tmp_path / "out", format="sentence-transformers")
    listed = json.loads((tmp_path / "out/modules.json").read_text("utf-8"))
    kinds = [entry["type"].rpartition(".")[2] for entry in listed]
    assert kinds == ["Transformer", "Pooling", "Normalize"]
    pooling = json.loads((tmp_path / "out/1_Pooling/config.json").read_text("utf-8"))
    assert pooling["pooling_mode_mean_tokens"]
    assert not pooling["pooling_mode_cls_token"]
    assert pooling["word_embedding_dimension"] == 32
    said = json.loads((tmp_path / "out/config_sentence_transformers.json").read_text("utf-8"))
    assert said["prompts"] == {"query": "what is "}
    assert said["similarity_fn_name"] == "dot"


def test_what_text_embeddings_inference_reads(
    other_engine: Callable[[str], Path], tmp_path: Path
) -> None:
    """Fields that it asks of every config.json, under the names of BERT's; and how it pools."""
    qdeploy.bundle(other_engine("distil-ort-cpu"), tmp_path / "out", format="tei")
    config = json.loads((tmp_path / "out/config.json").read_text("utf-8"))
    assert (config["hidden_size"], config["num_hidden_layers"]) == (64, config["n_layers"])
    assert config["dim"] == 64
    pooling = json.loads((tmp_path / "out/1_Pooling/config.json").read_text("utf-8"))
    assert [mode for mode, on in pooling.items() if mode.startswith("pooling_mode") and on] == [
        "pooling_mode_cls_token"
    ]


@pytest.mark.parametrize("engine", ["reranker-openvino", "embeds-openvino"])
def test_openvino_is_told_the_precision_beside_int8(
    engine: str, engines: Path, tmp_path: Path
) -> None:
    """By itself it computes in BF16 on some processors, which no evaluation measured."""
    wanted = {"INFERENCE_PRECISION_HINT": "f32"}
    use = qdeploy.bundle(engines / engine, tmp_path / "a", format="optimum")["use"]
    assert use.endswith(f", ov_config={json.dumps(wanted)})")
    use = qdeploy.bundle(engines / engine, tmp_path / "b", format="sentence-transformers")["use"]
    if engine.startswith("reranker"):
        assert use.endswith(f", model_kwargs={json.dumps({'ov_config': wanted})})")
    else:
        found = json.loads((tmp_path / "b/sentence_bert_config.json").read_text("utf-8"))
        assert found["model_args"] == {"ov_config": wanted}


@pytest.mark.parametrize(
    ("engine", "form", "text"),
    [
        ("dense-ort-cpu", "sentence-transformers", "Dense layer"),
        ("dense-ort-cpu", "tei", "Dense layer"),
        ("prompted-ort-cpu", "tei", "in front of every text"),
        ("prompted-ort-cpu", "transformers-js", "in front of every text"),
        ("embeds-openvino", "transformers-js", "Build for ort-cpu"),
        ("embeds-openvino", "tei", "Build for ort-cpu"),
        ("embeds-ort-cpu", "optimus", "optimum"),
    ],
)
def test_what_a_format_does_not_take(
    engine: str, form: str, text: str, engines: Path, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=text):
        qdeploy.bundle(engines / engine, tmp_path / "out", format=form)
    assert not (tmp_path / "out").exists()


def test_an_output_is_replaced_only_where_it_is_a_bundle(engines: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    qdeploy.bundle(engines / "classes-ort-cpu", out, format="optimum")
    with pytest.raises(OutputError, match="--force"):
        qdeploy.bundle(engines / "classes-ort-cpu", out, format="tei")
    qdeploy.bundle(engines / "classes-ort-cpu", out, format="tei", force=True)
    assert not (out / "model.onnx").exists()
    with pytest.raises(OutputError, match="kind"):
        qdeploy.bundle(
            engines / "embeds-ort-cpu", engines / "classes-ort-cpu", format="tei", force=True
        )


def test_the_command_says_how_to_load_it(
    engines: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    asked = ["bundle", str(engines / "embeds-ort-cpu"), str(out), "--format", "transformers-js"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert f'env.localModelPath = "{tmp_path.resolve()}"' in said
    assert 'pipeline("feature-extraction", "out", { dtype: "q8" })' in said
    assert main([*asked, "--force", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["format"] == "transformers-js"


def test_every_format_is_tested() -> None:
    assert set(GRAPHS) == set(FORMATS)


def test_the_server_answers_as_predict_does(engines: Path, tmp_path: Path) -> None:
    testing = pytest.importorskip("fastapi.testclient")
    qdeploy.bundle(engines / "classes-ort-cpu", tmp_path / "out", format="fastapi")
    wanted = qdeploy.load(engines / "classes-ort-cpu").predict(TEXTS)
    with importing(tmp_path / "out"):
        app = importlib.import_module("app").app
    with testing.TestClient(app) as client:
        assert client.get("/health").json() == {"status": "ok"}

        def ask(at: int) -> Any:
            rows = [{"text": TEXTS[at % 4]}, {"text": TEXTS[(at + 1) % 4]}]
            return client.post("/answer", json={"rows": rows}).json()["answers"]

        with ThreadPoolExecutor(16) as pool:
            found = list(pool.map(ask, range(64)))
        for at, answers in enumerate(found):
            for step, answer in enumerate(answers):
                expected = wanted[(at + step) % 4]
                assert answer["label"] == expected.label
                assert answer["score"] == pytest.approx(expected.score, abs=1e-6)
        wrong: Any
        for wrong in ({"rows": []}, {"rows": [{"text": ""}]}, {"rows": [{"text": 1}]}, {}):
            assert client.post("/answer", json=wrong).status_code == 422
        half = '{"rows": [{"text": "a \\ud800"}]}'  # JSON that Python's own reader takes
        said = {"content-type": "application/json"}
        assert client.post("/answer", content=half, headers=said).status_code == 422
        said = dict(
            line.split() for line in client.get("/metrics").text.splitlines() if line[0] != "#"
        )
        assert said["qdeploy_rows_total"] == "128"
        assert int(said["qdeploy_batches_total"]) <= 64
