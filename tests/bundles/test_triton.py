"""Model repositories for Triton: the Python model over a real engine, and what the files say.

Triton's server runs nowhere here. Its schema of config.pbtxt is its client's.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

import qdeploy
from qdeploy.errors import PlanError
from qdeploy.types import Array
from tests.bundles import triton_shim as shim
from tests.bundles.conftest import FIRST, ONNX_ALONE, OTHERS, TEXTS
from tests.environments import TRITON, python_of
from tests.manifests import edit
from tests.modules import importing

SECOND = ["it was built of water", "", "the war", "long ago in the south of the country"]
CLOSE = 1e-6  # FP32 of FP64
HEADS = (*FIRST, *OTHERS)
ENGINES = [
    f"{head}-{target}"
    for head in HEADS
    for target in ("ort-cpu", "openvino")
    if target == "ort-cpu" or head not in ONNX_ALONE
]
QUICK = ("tags-ort-cpu", "topics-ort-cpu")  # of `OTHERS`, of which each takes long to build


def _marks(name: str) -> list[pytest.MarkDecorator]:
    return [] if name.split("-")[0] in FIRST or name in QUICK else [pytest.mark.slow]


@pytest.fixture
def engine(request: pytest.FixtureRequest, engines: Path) -> Path:
    """The engine whose name is the parameter."""
    if request.param.split("-")[0] in FIRST:
        return engines / request.param
    find: Callable[[str], Path] = request.getfixturevalue("other_engine")
    return find(request.param)


@contextmanager
def loaded(engine: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The Python model of an engine's bundle, as the Python backend loads it."""
    qdeploy.bundle(engine, out, format="triton")
    home = out / "models" / engine.name
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", shim)
    with importing(home / "1"):
        model = importlib.import_module("model").TritonPythonModel()
        model.initialize({"model_config": json.dumps(shim.model_config(home / "config.pbtxt"))})
        yield model


def arrays(response: Any) -> dict[str, Array]:
    assert response.error is None, response.error.message()
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors}


def texts(array: Array) -> list[str]:
    assert array.dtype == object
    assert array.shape[1:] == (1,)
    return [value.decode() for value in array[:, 0]]


def check(head: str, engine: Any, rows: Any, found: dict[str, Array]) -> None:
    """The outputs of one request say what the engine says of its rows."""
    if head in EMBEDS:
        assert found.keys() == {"embedding"}
        assert found["embedding"].dtype == np.float32
        assert np.abs(found["embedding"] - engine.encode(rows)).max() < CLOSE
        return
    if head == "tags":
        wanted = engine.entities(rows)
        told = [json.loads(text) for text in texts(found["entities"])]
        assert sum(map(len, wanted)) > 0
        for own, other in zip(told, wanted, strict=True):
            assert [one["label"] for one in own] == [one.label for one in other]
            assert [(one["start"], one["end"]) for one in own] == [
                (one.start, one.end) for one in other
            ]
            scores = [one.score for one in other]
            assert [one["score"] for one in own] == pytest.approx(scores, abs=CLOSE)
        return
    if head == "spans":
        answers = engine.answer(rows)
        assert texts(found["answer"]) == [one.text for one in answers]
        for name in ("score", "start", "end"):
            wanted = [getattr(one, name) for one in answers]
            assert found[name][:, 0] == pytest.approx(wanted, abs=CLOSE)
        return
    wanted = engine.predict(rows)
    if "label" in found:
        assert texts(found["label"]) == [one.label for one in wanted]
    if "labels" in found:
        told = [json.loads(text) for text in texts(found["labels"])]
        assert told == [list(one.labels) for one in wanted]
    if "score" in found:
        assert np.abs(found["score"][:, 0] - [one.score for one in wanted]).max() < CLOSE
    if "scores" in found:
        expected = np.array([list(one.scores.values()) for one in wanted])
        assert found["scores"].shape == expected.shape
        assert np.abs(found["scores"] - expected).max() < CLOSE


OUTPUTS = {
    "classes": ["label", "score", "scores"],
    "reranker": ["score"],
    "topics": ["labels", "scores"],
    "values": ["scores"],
    "tags": ["entities"],
    "spans": ["answer", "score", "start", "end"],
    "embeds": ["embedding"],
    "dense": ["embedding"],
    "prompted": ["embedding"],
    "distil": ["embedding"],
}
EMBEDS = [head for head, names in OUTPUTS.items() if names == ["embedding"]]


@pytest.mark.parametrize(
    "engine",
    [pytest.param(e, marks=_marks(e)) for e in ENGINES],
    indirect=True,
)
def test_the_model_of_texts_answers_as_the_engine(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, head = qdeploy.load(engine), engine.name.split("-")[0]
    pairs = head in ("classes", "reranker", "topics", "values", "spans")
    with loaded(engine, tmp_path / "out", monkeypatch) as model:
        whole = list(zip(TEXTS, TEXTS[::-1], strict=True)) if head == "spans" else TEXTS
        first = shim.request_of(TEXTS, TEXTS[::-1]) if head == "spans" else shim.request_of(TEXTS)
        second = shim.request_of(TEXTS[:1], SECOND[:1]) if pairs else shim.request_of(TEXTS[2:])
        found = [arrays(response) for response in model.execute([first])]
        found += [arrays(response) for response in model.execute([second])]
    assert [list(one) for one in found] == [OUTPUTS[head]] * 2
    check(head, own, whole, found[0])
    check(head, own, [(TEXTS[0], SECOND[0])] if pairs else TEXTS[2:], found[1])


@pytest.mark.parametrize("engine", ["classes-ort-cpu", "tags-ort-cpu"], indirect=True)
def test_requests_of_a_batch_run_together_and_part_again(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, head = qdeploy.load(engine), engine.name.split("-")[0]
    parts = [TEXTS[:1], TEXTS[1:3], TEXTS, TEXTS[3:]]
    with loaded(engine, tmp_path / "out", monkeypatch) as model:
        runs, run = list[int](), model.model.run

        def counted(feeds: Any) -> Any:
            runs.append(len(feeds["input_ids"]))
            return run(feeds)

        model.model.run = counted
        responses = model.execute([shim.request_of(part) for part in parts])
    assert runs == [8]  # all rows in one run
    for part, response in zip(parts, responses, strict=True):
        check(head, own, part, arrays(response))


@pytest.mark.parametrize("engine", ["classes-ort-cpu"], indirect=True)
def test_of_a_batch_the_broken_request_fails_alone(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = qdeploy.load(engine)
    broken = shim.InferenceRequest([shim.Tensor("text", np.array([[b"\xff"]], object))])
    ragged = shim.request_of(TEXTS, SECOND[:2])
    with loaded(engine, tmp_path / "out", monkeypatch) as model:
        good = [shim.request_of(TEXTS[:2]), shim.request_of(TEXTS[2:], SECOND[2:])]
        responses = model.execute([good[0], broken, ragged, good[1]])
        monkeypatch.setattr(sys.modules["predict"], "VOCABULARY", 3)  # predict.py exits
        (unknown,) = model.execute([good[0]])
    assert [response.error is None for response in responses] == [True, False, False, True]
    assert "utf-8" in responses[1].error.message()
    assert "shorter" in responses[2].error.message()
    assert "token that the model does not know" in unknown.error.message()
    check("classes", own, TEXTS[:2], arrays(responses[0]))
    check("classes", own, list(zip(TEXTS[2:], SECOND[2:], strict=True)), arrays(responses[3]))


@pytest.mark.parametrize("engine", ["classes-ort-cpu"], indirect=True)
def test_the_backend_of_onnx_runtime_runs_the_same_kernels(engine: Path, tmp_path: Path) -> None:
    """It has no switch for the fusion that qdeploy leaves out; of INT8 engines it finds none."""
    qdeploy.bundle(engine, tmp_path / "out", format="triton")
    graph = tmp_path / "out/models" / f"{engine.name}_graph" / "1/model.onnx"
    ran = []
    for disabled in ([], ["SkipLayerNormFusion"]):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        onnxruntime.InferenceSession(graph, options, disabled_optimizers=disabled)
        ran.append([node.op_type for node in ir.load(tmp_path / "optimized.onnx").graph])
    assert ran[0] == ran[1]
    assert "MatMulIntegerToFloat" in ran[0]


def test_an_engine_without_a_script_is_refused(engines: Path, tmp_path: Path) -> None:
    shutil.copytree(engines / "classes-ort-cpu", tmp_path / "engine")
    edit(tmp_path / "engine", "engine", target="tensorrt")
    with pytest.raises(PlanError, match=r"no predict\.py\. Build it for ort-cpu or openvino"):
        qdeploy.bundle(tmp_path / "engine", tmp_path / "out", format="triton")
    assert not (tmp_path / "out").exists()


def test_the_folders_are_named_after_the_engine(engines: Path, tmp_path: Path) -> None:
    said = qdeploy.bundle(engines / "classes-ort-cpu", tmp_path / "out", format="triton")
    home = tmp_path / "out/models"
    assert sorted(place.name for place in home.iterdir()) == [
        "classes-ort-cpu",
        "classes-ort-cpu_graph",
    ]
    assert "--load-model=classes-ort-cpu" in said["use"]
    assert "--load-model=classes-ort-cpu" in (tmp_path / "out/Dockerfile").read_text("utf-8")
    assert (home / "classes-ort-cpu/labels.txt").read_text("utf-8") == "bad\ngood\n"
    wanted = {"onnxruntime", "tokenizers", "numpy"}
    assert set((tmp_path / "out/requirements.txt").read_text("utf-8").split()) == wanted


PARSE = """
import sys
from google.protobuf import json_format, text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig
found = text_format.Parse(sys.stdin.read(), ModelConfig())
print(json_format.MessageToJson(found, preserving_proto_field_name=True))
"""
TYPES = {ir.DataType.INT64: "TYPE_INT64", ir.DataType.FLOAT: "TYPE_FP32"}


@pytest.fixture(scope="module")
def python() -> Path:
    """Of the environment of Triton's client."""
    return python_of(TRITON)


def parsed(python: Path, path: Path) -> dict[str, Any]:
    """A config.pbtxt by Triton's schema."""
    with path.open() as text:
        done = subprocess.run(
            [python, "-c", PARSE], stdin=text, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_configurations_by_tritons_own_schema(engine: Path, python: Path, tmp_path: Path) -> None:
    qdeploy.bundle(engine, tmp_path / "out", format="triton")
    home, head = tmp_path / "out/models", engine.name.split("-")[0]
    config = parsed(python, home / engine.name / "config.pbtxt")
    assert config["backend"] == "python"
    assert config["max_batch_size"] == 32
    assert "dynamic_batching" in config
    assert config["instance_group"] == [{"count": 1, "kind": "KIND_CPU"}]
    assert [output["name"] for output in config["output"]] == OUTPUTS[head]
    assert shim.model_config(home / engine.name / "config.pbtxt")["output"] == [
        {"name": o["name"], "data_type": o["data_type"], "dims": [int(d) for d in o["dims"]]}
        for o in config["output"]
    ]
    optional = {one["name"]: one.get("optional", False) for one in config["input"]}
    single = head in (*EMBEDS, "tags")
    assert optional == {"text": False} | ({} if single else {"text_pair": head != "spans"})
    for output in config["output"]:
        assert output.get("label_filename") == (
            "labels.txt" if output["name"] == "scores" else None
        )
    check_graph(engine, home / f"{engine.name}_graph", python)


def check_graph(engine: Path, home: Path, python: Path) -> None:
    """The model of tokens has the names, types and dims of the graph beside it."""
    config = parsed(python, home / "config.pbtxt")
    graph = ir.load(home / "1/model.onnx").graph
    assert (home / "1/model.onnx").read_bytes() == (engine / "model.onnx").read_bytes()
    batched = engine.name.endswith("ort-cpu")
    assert config["backend"] == ("onnxruntime" if batched else "openvino")
    assert config.get("max_batch_size", 0) == (32 if batched else 0)
    assert ("dynamic_batching" in config) == batched
    for kind, values in (("input", graph.inputs), ("output", graph.outputs)):
        told = [(o["name"], o["data_type"], [int(d) for d in o["dims"]]) for o in config[kind]]
        wanted = []
        for value in values:
            assert value.shape is not None
            assert value.dtype is not None
            dims = [dim if isinstance(dim, int) else -1 for dim in value.shape]
            assert dims[0] == -1
            wanted.append((value.name, TYPES[value.dtype], dims[batched:]))
        assert told == wanted
    if batched:
        parameters = {k: v["string_value"] for k, v in config["parameters"].items()}
        assert parameters == {"intra_op_thread_count": "0", "inter_op_thread_count": "1"}
        return
    openvino = pytest.importorskip("openvino")
    model = openvino.Core().read_model(home / "1" / config["default_model_filename"])
    for kind, ports in (("input", model.inputs), ("output", model.outputs)):
        shapes = {
            port.get_any_name(): [
                -1 if d.is_dynamic else d.get_length() for d in port.partial_shape
            ]
            for port in ports
        }  # the backend wants those of outputs to the number
        assert shapes == {one["name"]: [int(d) for d in one["dims"]] for one in config[kind]}
