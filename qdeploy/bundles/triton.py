"""A model repository for NVIDIA Triton: a model of texts, and one of tokens.

The fields of config.pbtxt are those of Triton's `model_config.proto`. Why the model of texts runs
the engine by itself: docs/adr/0036.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from qdeploy.bundles.source import OPENVINO, SCRIPT, TOKENIZER, Source, refuse_scriptless
from qdeploy.deploy.predict_script import score_function
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.head import MULTI_LABEL, REGRESSION, SEQUENCES, SPANS, TOKENS

if TYPE_CHECKING:
    import onnx_ir as ir

_GRAPH, _DATA = "model.onnx", "model.onnx.data"
_TEXT, _NUMBER = "TYPE_STRING", "TYPE_FP32"
_MOST_ROWS = 32  # of a request, and of requests that run together
_LABELS = "labels.txt"
_ON_CPU = "instance_group [ { count: 1 kind: KIND_CPU } ]\n"
_BATCHING = "dynamic_batching { }\n"
_DOCKERFILE = """# docker build --build-arg RELEASE=<year.month of a release of Triton> .
ARG RELEASE
FROM nvcr.io/nvidia/tritonserver:${RELEASE}-py3
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -r /tmp/requirements.txt
COPY models /models
CMD ["tritonserver", "--model-repository=/models", \\
     "--model-control-mode=explicit", "--load-model=NAME"]
"""


def triton(source: Source, work: Path) -> str:
    """`models/NAME`, texts → answers, and `models/NAME_graph`, tokens → outputs of the graph."""
    refuse_scriptless(source)
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", source.directory.resolve().name).strip(".-") or "engine"
    _write_texts(source, work / "models" / name)
    _write_graph(source, work / "models" / f"{name}_graph")
    packages = TARGETS[source.manifest["target"]].snippet().packages
    (work / "requirements.txt").write_text("\n".join(packages) + "\n", "utf-8")
    (work / "Dockerfile").write_text(_DOCKERFILE.replace("NAME", name), "utf-8")
    return (
        "pip install -r {out}/requirements.txt\n"
        "tritonserver --model-repository={out}/models --model-control-mode=explicit"
        f" --load-model={name}"
    )


def _write_texts(source: Source, home: Path) -> None:
    """The model that Triton's Python backend runs: the engine with its own predict.py."""
    version = _version(home)
    for name in (_GRAPH, _DATA, TOKENIZER, SCRIPT):
        if (source.directory / name).is_file():
            shutil.copyfile(source.directory / name, version / name)
    model = resources.files("qdeploy.bundles").joinpath("triton_model.py").read_text("utf-8")
    (version / "model.py").write_text(model, "utf-8")
    inputs = _tensor("input", "text", _TEXT, [1])
    if source.head.task in (SEQUENCES, SPANS):
        more = "" if source.head.task == SPANS else "optional: true"
        inputs += _tensor("input", "text_pair", _TEXT, [1], more)
    outputs = ""
    for name, (dtype, count) in _answers(source).items():
        labelled = name == "scores"
        more = f'label_filename: "{_LABELS}"' if labelled else ""
        outputs += _tensor("output", name, dtype, [count], more)
        if labelled:
            lines = [" ".join(label.split()) for label in source.head.labels]
            (home / _LABELS).write_text("\n".join(lines) + "\n", "utf-8")
    head = f'backend: "python"\nmax_batch_size: {_MOST_ROWS}\n{_BATCHING}{_ON_CPU}'
    every_core = _parameters({"threads": "0"})
    (home / "config.pbtxt").write_text(head + every_core + inputs + outputs, "utf-8")


def _answers(source: Source) -> dict[str, tuple[str, int]]:
    """Type and length of what is said of a row, by its name in the answers of predict.py.

    Texts of what has parts, or is of each token, are JSON.
    """
    head = source.head
    if head.embedding is not None:
        return {"embedding": (_NUMBER, head.embedding["dimension"])}
    if head.task == TOKENS:
        return {"entities": (_TEXT, 1)}
    if head.task == SPANS:
        places = dict.fromkeys(("score", "start", "end"), (_NUMBER, 1))
        return {"answer": (_TEXT, 1)} | places
    if score_function(head) is None:
        return dict.fromkeys(head.answers, (_TEXT, 1))
    scores = {"scores": (_NUMBER, len(head.labels))}
    if head.problem_type == MULTI_LABEL:
        return {"labels": (_TEXT, 1)} | scores
    if len(head.labels) < 2:
        return {"score": (_NUMBER, 1)}
    if head.problem_type == REGRESSION:
        return scores
    return {"label": (_TEXT, 1), "score": (_NUMBER, 1)} | scores


def _write_graph(source: Source, home: Path) -> None:
    """The model that Triton's own backend of the runtime runs, for clients that have tokens."""
    import onnx_ir as ir

    version = _version(home)
    for name in (_GRAPH, _DATA):
        if (source.directory / name).is_file():
            shutil.copyfile(source.directory / name, version / name)
    graph = ir.load(version / _GRAPH).graph
    if source.is_openvino:
        # With max_batch_size that backend fixes the rows of a run; without it they are free.
        head, first = f'backend: "{OPENVINO}"\ndefault_model_filename: "{_GRAPH}"\n', 0
        bf16 = {"HINT_BF16": "YES"} if source.manifest.get("rest_precision") == "bf16" else {}
        parameters = {"PERFORMANCE_HINT": "LATENCY"} | bf16
    else:
        head, first = f'backend: "onnxruntime"\nmax_batch_size: {_MOST_ROWS}\n{_BATCHING}', 1
        parameters = {"intra_op_thread_count": "0", "inter_op_thread_count": "1"}
    tensors = "".join(
        _tensor(kind, str(value.name), _dtype(value), _dims(value)[first:])
        for kind, values in (("input", graph.inputs), ("output", graph.outputs))
        for value in values
    )
    config = head + _ON_CPU + _parameters(parameters) + tensors
    (home / "config.pbtxt").write_text(config, "utf-8")


def _version(home: Path) -> Path:
    """The folder of a model's only version."""
    (home / "1").mkdir(parents=True)
    return home / "1"


def _tensor(kind: str, name: str, dtype: str, dims: list[int], more: str = "") -> str:
    fields = [f"name: {json.dumps(name)}", f"data_type: {dtype}", f"dims: {dims}", more]
    return f"{kind} [ {{ {' '.join(filter(None, fields))} }} ]\n"


def _parameters(values: Mapping[str, str]) -> str:
    return "".join(
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n'
        for key, value in values.items()
    )


def _dtype(value: ir.Value) -> str:
    assert value.dtype is not None
    return f"TYPE_{value.dtype.name}".replace("FLOAT16", "FP16").replace("FLOAT", "FP32")


def _dims(value: ir.Value) -> list[int]:
    """Lengths of the axes; -1 of those that a run decides."""
    assert value.shape is not None
    return [dim if isinstance(dim, int) else -1 for dim in value.shape]
