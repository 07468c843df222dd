"""Engines run, and commands answer, where nothing that makes engines is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.head import SPANS, TOKENS
from tests.deploy.conftest import Built, Source
from tests.deploy.head_engines import HEADS, TARGETS, TEXTS, Engines, needs

# Of the extra `export`, with what else is not in the extra `runtime`.
ABSENT = (
    *("torch", "transformers", "peft", "safetensors", "onnxscript", "accelerate"),
    *("onnx", "onnx_ir", "ml_dtypes", "google.protobuf", "sympy", "yaml"),
    *("matplotlib", "jinja2", "ray", "pyarrow", "datasets"),
)
TRAINING = ("torch", "transformers", "peft", "safetensors", "onnxscript", "accelerate")


def run_without(absent: tuple[str, ...], code: str, *words: str) -> tuple[int, str, str]:
    """Exit code, output and errors of Python code where packages cannot be imported."""
    start = f"import sys; sys.modules.update(dict.fromkeys({absent})); {code}"
    command = [sys.executable, "-c", start, *words]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def command(absent: tuple[str, ...], *words: str) -> tuple[int, str, str]:
    code = "from qdeploy.__main__ import main; sys.exit(main())"
    return run_without(absent, code, *words)


_ASKED = """
import dataclasses, json, qdeploy
for path in sys.argv[2:]:
    engine, texts = qdeploy.load(path, threads=2), json.loads(sys.argv[1])
    call = {"token-classification": "entities", "question-answering": "logits"}
    found = getattr(engine, call.get(engine.task, "predict"))(texts)
    plain = lambda x: x.tolist() if hasattr(x, "tolist") else dataclasses.asdict(x)
    print(json.dumps(found, default=plain))
"""


@pytest.mark.parametrize("target", TARGETS)
def test_every_head_answers_alike(target: str, engines: Engines) -> None:
    needs(target)
    heads = [*HEADS, TOKENS, SPANS]
    directories = [engines(head, target) for head in heads]
    code, out, err = run_without(
        ABSENT, f"exec({_ASKED!r})", json.dumps(TEXTS), *map(str, directories)
    )
    assert code == 0, err
    for head, directory, line in zip(heads, directories, out.splitlines(), strict=True):
        engine = qdeploy.load(directory, threads=2)
        wanted: Any
        if head == TOKENS:
            wanted = [list(map(asdict, row)) for row in engine.entities(TEXTS)]
        elif head == SPANS:
            wanted = [{k: v.tolist() for k, v in row.items()} for row in engine.logits(TEXTS)]
        else:
            wanted = list(map(asdict, engine.predict(TEXTS)))
        assert json.loads(line) == json.loads(json.dumps(wanted))


def test_inspect_and_doctor_work(engine: Callable[..., Built]) -> None:
    directory = engine(strategy="peg").directory
    code, out, err = command(ABSENT, "inspect", str(directory), "--json", "-")
    assert code == 0, err
    assert json.loads(out) == qdeploy.inspect(directory)
    code, out, err = command(ABSENT, "doctor", "--json", "-")
    assert code == 0, err
    assert json.loads(out)["targets"]["ort-cpu"]["works"]


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (("export", "embedded", "m"), "torch"),
        (("demo", "d"), "torch"),
        (("build", "MODEL", "e"), "onnx_ir"),
        (("analyze", "MODEL"), "onnx_ir"),
    ],
)
def test_what_makes_engines_says_what_to_install(
    words: tuple[str, ...],
    missing: str,
    bert: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    named = [str(bert.directory) if word == "MODEL" else word for word in words]
    code, out, err = command(ABSENT, *named)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert (
        f"The package {missing} is not installed" in err
        and f"Type: {sys.executable} -m pip install" in err
    )
    assert not list(tmp_path.iterdir())


def test_eval_says_at_once_what_it_lacks(engines: Engines, tmp_path: Path) -> None:
    """Before it measures: ONNX Runtime's graph is read with onnx-ir, OpenVINO's is not."""
    words = ("--limit", "8", "--iterations", "2", "--warmup", "1", "--no-accuracy", "--json", "-")
    code, out, err = command(ABSENT, "eval", str(engines("classes", "ort-cpu")), "-q", *words)
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert f"Type: {sys.executable} -m pip install onnx-ir" in err
    pytest.importorskip("openvino")
    code, out, err = command(ABSENT, "eval", str(engines("classes", "openvino")), *words)
    assert code == 0, err
    assert json.loads(out)["int8"]["executed"] > 0


def test_build_and_eval_need_no_torch(bert: Source, tmp_path: Path) -> None:
    """A model directory that was exported elsewhere is enough, with onnx-ir."""
    code, _, err = command(
        TRAINING, "build", str(bert.directory), str(tmp_path / "e"), "--strategy", "w8a8",
        "--statistics", str(bert.statistics), "--no-measure", "--quiet",
    )  # fmt: skip
    assert code == 0, err
    code, out, err = command(
        TRAINING, "eval", str(tmp_path / "e"), "--task", "qnli", "--limit", "8",
        "--iterations", "2", "--warmup", "1", "--json", "-",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["int8"]["executed"] > 0
