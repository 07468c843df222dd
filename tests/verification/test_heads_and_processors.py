"""`qdeploy verify` of every head, on every target that runs here, and on another processor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.deploy.certificate import CERTIFICATE, read_certificate
from qdeploy.deploy.processors import holds_here
from qdeploy.files.artifact import read_json, write_json
from qdeploy.head import SPANS, TOKENS
from qdeploy.machine.processor import EXACT, instruction_set
from tests import manifests
from tests.deploy.head_engines import TARGETS, Engines, needs
from tests.exports import Exports
from tests.sentence_models import sentence_checkpoint
from tests.verification.conftest import Copy, failed, make_engine, states

pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", ["multi", "values", "logit", TOKENS, SPANS])
def test_every_head_holds_and_its_other_weights_do_not(
    kind: str, target: str, engines: Engines, tmp_path: Path
) -> None:
    needs(target)
    directory = shutil.copytree(engines(kind, target), tmp_path / "engine")
    manifests.sign(directory)  # some of these are made of others
    found = qdeploy.verify(directory)
    assert states(found)["numbers"] == "ok" and found["numbers"]["equal_rows"] == 16
    assert states(found)["kernels"] == "ok"
    canary = read_json(directory / "canary.json")
    outputs = canary["batches"][2]["outputs"]
    name = sorted(outputs)[-1]
    outputs[name][0][0] += 100  # one value of one row
    write_json(directory / "canary.json", canary)
    manifests.sign(directory)
    assert "beyond it: row 3" in failed(directory)["numbers"]


@pytest.mark.parametrize("hidden", [32, pytest.param(64, marks=pytest.mark.slow)])
def test_embeddings(tmp_path: Path, hidden: int) -> None:
    for name, pooling in (("one", "mean"), ("other", "cls")):
        sentence_checkpoint(tmp_path / f"{name}-checkpoint", pooling=pooling, hidden=hidden)
        qdeploy.export(tmp_path / f"{name}-checkpoint", tmp_path / f"{name}-model")
        make_engine(tmp_path / f"{name}-model", tmp_path / name, strategy="peg")
    directory = tmp_path / "one"
    assert failed(directory) == {}
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copyfile(tmp_path / "other" / name, directory / name)
    manifests.sign(directory)
    assert list(failed(directory)) == ["numbers"]  # the same weights, pooled otherwise


@pytest.mark.parametrize("hidden", [32, pytest.param(64, marks=pytest.mark.slow)])
def test_openvino_that_lost_int8_is_caught(
    engine: Callable[..., Path], copy: Copy, hidden: int
) -> None:
    needs("openvino")
    directory = copy(hidden=hidden, target="openvino")
    assert failed(directory) == {}
    plain = engine(hidden=hidden, target="openvino", strategy="fp32")
    for name in ("model.onnx", "model.onnx.data"):
        shutil.copyfile(plain / name, directory / name)
    manifests.sign(directory)
    assert list(failed(directory)) == ["kernels"]


@pytest.mark.parametrize("hidden", [32, 64])
def test_a_runtime_that_lost_int8_is_caught(
    engine: Callable[..., Path], hidden: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO without its transformations to low precision: weights in int8, products in FP32."""
    needs("openvino")
    from qdeploy.deploy.targets.openvino import engine as openvino

    directory, core = engine(hidden=hidden, target="openvino"), openvino.core()

    class Core:
        def compile_model(self, path: str, device: str, settings: dict[str, Any]) -> Any:
            return core.compile_model(path, device, settings | {"LP_TRANSFORMS_MODE": "NO"})

    monkeypatch.setattr(openvino, "core", Core)
    found = failed(directory)
    assert list(found) == ["kernels"] and "OpenVINO computes it in f32" in found["kernels"]


def _of_another_processor(directory: Path) -> None:
    """A certificate as a processor of the other kind of sums would have written it."""
    path = directory / CERTIFICATE
    certificate = read_json(path)
    found = certificate["processors"]
    found["made_on"] = "avx2" if instruction_set() in EXACT else "avx512_vnni"
    found["proved"] = False
    found["saturating"] = [{"gemm": "layer.0", "largest_pair": 200, "columns_over": 3}]
    write_json(path, certificate)
    manifests.sign(directory)


def test_a_wrong_processor_is_caught(copy: Copy, engine: Callable[..., Path]) -> None:
    known = states(qdeploy.verify(engine()))
    assert known["processor"] == "ok"
    directory = copy()
    _of_another_processor(directory)
    warning = holds_here(read_certificate(directory)["processors"]) or ""
    found = failed(directory)
    assert list(found) == ["processor"] and warning.startswith(found["processor"])
    assert "can saturate on one of the two" in found["processor"]
    older = copy("older")
    certificate = read_json(older / CERTIFICATE)
    del certificate["processors"]
    write_json(older / CERTIFICATE, certificate)
    manifests.sign(older)
    assert states(qdeploy.verify(older))["processor"] == "not checked"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="needs qemu-user")
def test_an_engine_is_verified_on_an_emulated_processor(
    copy: Copy, exported: Exports, tmp_path: Path
) -> None:
    """A processor with AVX2 alone: numbers that are proved hold there, others are refused."""
    proved = make_engine(exported().model_dir, tmp_path / "proved", strategy="peg")
    native = shutil.copytree(proved, tmp_path / "native")
    certificate = read_json(native / CERTIFICATE)
    certificate["processors"] |= {
        "proved": False,
        "saturating": [{"gemm": "layer.0", "largest_pair": 200, "columns_over": 3}],
    }
    write_json(native / CERTIFICATE, certificate)
    manifests.sign(native)
    code = (
        "import json, sys, qdeploy\nfrom qdeploy.errors import GateError\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n        found = qdeploy.verify(path, threads=1)\n"
        "    except GateError as error:\n        found = error.report\n"
        "    print(json.dumps(found))\n"
    )
    command = ["qemu-x86_64", "-cpu", "Haswell", sys.executable, "-c", code]
    done = subprocess.run(
        [*command, str(proved), str(native)], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first["ok"] and states(first)["processor"] == "ok"
    text = next(one["text"] for one in second["checks"] if one["name"] == "processor")
    assert states(second)["processor"] == "failed" and "this one has AVX2" in text
