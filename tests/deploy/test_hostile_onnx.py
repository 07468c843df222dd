"""ONNX files that mean harm: refused by rule, or looked into by a process that may die of them."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

import qdeploy
from qdeploy.calibrate.model import load_model
from qdeploy.deploy import foreign
from qdeploy.deploy.describe import describe
from qdeploy.deploy.open import open_engine
from qdeploy.errors import ModelError
from qdeploy.evaluate.size import engine_size
from qdeploy.onnx_file import check as onnx_files
from qdeploy.onnx_file.check import check_file, check_inside
from tests.deploy.conftest import Built, Source
from tests.deploy.hostile_onnx import KINDS, OUTSIDE, REFUSED, hostile_files
from tests.deploy.hostile_weights import CANARY
from tests.deploy.onnx_graphs import graph_of, node
from tests.manifests import sign

FILES = 480  # of the slow test
BYTES = 2_000_000_000
SECONDS = 12.0  # of the processor: the rules' own, and the limit of the process


def made(kind: str, folder: Path, seed: int = 0) -> Path:
    """A file of this kind, beside a canary that no text may hold."""
    inside = folder / "inside"
    inside.mkdir()
    (folder / "canary").write_bytes(CANARY * 50)
    KINDS[kind](inside / "model.onnx", folder / "canary", random.Random(seed))
    return inside / "model.onnx"


def processor_s() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_honest_file_does_is_refused_before_it_is_opened(
    kind: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(kind, tmp_path, seed)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("it was opened"))
    began = time.process_time()
    with pytest.raises(ModelError) as caught:
        qdeploy.inspect(path) if not path.is_dir() else check_file(path)
    assert time.process_time() - began < SECONDS
    text = str(caught.value)
    assert text.startswith(f"{path} ") and text.endswith(".")
    assert CANARY.decode() not in text


@pytest.mark.parametrize("kind", [k for k in REFUSED if not k.startswith("file:")])
def test_a_model_directory_of_somebody_else_with_right_hashes(
    kind: str, bert: Source, tmp_path: Path
) -> None:
    """`build`, `calibrate` and `analyze` open a model through `load_model`."""
    path = made(kind, tmp_path)
    for file in bert.directory.iterdir():
        if file.is_file() and file.name != path.name:
            shutil.copy(file, path.parent)
    sign_what_can_be(path.parent)
    with pytest.raises(ModelError, match=r"model\.onnx cannot be read as ONNX"):
        load_model(path.parent)


@pytest.mark.parametrize("kind", [k for k in REFUSED if not k.startswith("file:")])
def test_an_engine_directory_of_somebody_else_with_right_hashes(
    kind: str, engine: Callable[..., Built], tmp_path: Path
) -> None:
    path = made(kind, tmp_path)
    for file in engine(strategy="w8a8").directory.iterdir():
        if file.name != path.name:
            shutil.copy(file, path.parent)
    sign_what_can_be(path.parent)
    for opened in (open_engine, qdeploy.load, engine_size):
        with pytest.raises(ModelError, match=r"model\.onnx cannot be read as ONNX"):
            opened(path.parent)


def sign_what_can_be(directory: Path) -> None:
    """New hashes, but of what never ends: a device, a FIFO."""
    endless = [p for p in directory.iterdir() if p.is_symlink() or not p.is_file()]
    for path in endless:
        path.rename(directory.parent / path.name)
    sign(directory)
    for path in endless:
        (directory.parent / path.name).rename(path)


@pytest.mark.parametrize("kind", ["fifo", "link", "loop", "folder"])
def test_a_directory_whose_graph_is_no_file_of_its_own(
    kind: str, bert: Source, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bert.directory, copy)
    path = copy / "model.onnx"
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(bert.directory / "model.onnx")
    elif kind == "loop":
        path.symlink_to("model.onnx")
    else:
        path.mkdir()
    with pytest.raises(ModelError):
        load_model(copy)


def test_a_link_within_the_directory_is_followed(bert: Source, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bert.directory, copy)
    (copy / "model.onnx").rename(copy / "v2.onnx")
    (copy / "model.onnx").symlink_to("v2.onnx")
    (tmp_path / "alias").symlink_to(copy)
    load_model(copy)
    load_model(tmp_path / "alias")


def test_honest_files_are_looked_at_without_their_weights(bert: Source) -> None:
    began = time.process_time()
    size = check_inside(bert.directory / "model.onnx")
    assert size == (bert.directory / "model.onnx").stat().st_size
    assert time.process_time() - began < 1


def test_weights_beside_a_file_are_its_own(tmp_path: Path) -> None:
    ir.save(
        ir.from_proto(graph_of([node("MatMul", ["x", "w"], ["y"])])),
        tmp_path / "a.onnx",
        external_data="sub.bin",
        size_threshold_bytes=0,
    )
    assert check_file(tmp_path / "a.onnx") > (tmp_path / "a.onnx").stat().st_size
    with pytest.raises(ModelError, match=r"names the file sub\.bin, and qdeploy writes a\.onnx\.d"):
        check_inside(tmp_path / "a.onnx")
    assert qdeploy.inspect(tmp_path / "a.onnx")["int8"]["planned"] == 0


def test_the_process_says_what_the_function_says(bert: Source) -> None:
    path = bert.directory / "model.onnx"
    here, there = describe(path), qdeploy.inspect(path)
    assert list(here) == list(there)
    assert here["operators"] == there["operators"] and here["inputs"] == there["inputs"]
    assert {k: v["kernel"] for k, v in here["int8"]["gemms"].items()} == {
        k: v["kernel"] for k, v in there["int8"]["gemms"].items()
    }


LOOK = """
import resource, sys, qdeploy
from qdeploy.errors import ModelError
try:
    qdeploy.inspect(sys.argv[1])
except ModelError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize(
    ("kind", "text"),
    [("doubled", "bad_alloc|MemoryError|asks for more memory"), ("input of 2^62", "no encoder's")],
)
def test_memory_of_a_look_is_bounded(kind: str, text: str, tmp_path: Path) -> None:
    path = made(kind, tmp_path)
    # in a process of its own, which has no other children: their largest is what is told
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(path)], capture_output=True, text=True, timeout=300
    )
    said, _, memory = done.stdout.strip().rpartition("\n")
    assert re.search(text, said), done.stdout + done.stderr
    assert int(memory) * 1024 < BYTES


def test_a_process_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(graph_of([node("MatMul", ["x", "w"], ["y"])]).SerializeToString())
    ends = {
        "import os; os.abort()": "ended with SIGABRT",
        "import os; os.kill(os.getpid(), 11)": "ended with SIGSEGV",
        "raise TypeError('of ours')": "ended with TypeError: of ours",
        "pass": "ended with exit code 0",
    }
    for code, text in ends.items():
        monkeypatch.setattr(foreign, "_START", code)
        with pytest.raises(ModelError, match=f"could not be looked into: .*{text}"):
            qdeploy.inspect(path)


def test_a_look_takes_no_longer_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(graph_of([node("MatMul", ["x", "w"], ["y"])]).SerializeToString())
    bound = "import sys; from qdeploy.deploy.foreign import _bound; _bound(1)\n"
    monkeypatch.setattr(foreign, "SECONDS", 1)
    monkeypatch.setattr(foreign, "_START", bound.replace("_bound(1)", "_bound(-12_000_000)")
                        + "while True: pass")  # fmt: skip
    with pytest.raises(ModelError, match="s of the processor were not enough"):
        qdeploy.inspect(path)
    monkeypatch.setattr(foreign, "_START", "import time; time.sleep(60)")
    monkeypatch.setattr(foreign, "_PATIENCE", 1)
    with pytest.raises(ModelError, match="waits for something that does not come"):
        qdeploy.inspect(path)


def test_packages_beside_a_file_are_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(graph_of([node("MatMul", ["x", "w"], ["y"])]).SerializeToString())
    for name in ("onnxruntime", "numpy", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    assert qdeploy.inspect("m.onnx")["kind"] == "onnx"


def test_the_floor_of_onnx_has_the_path_checks() -> None:
    """1.21 mends external data that leads elsewhere by links (CVE-2026-27489, CVE-2026-34446)."""
    root = Path(qdeploy.__file__).parents[1]
    (floor,) = re.findall(r'^ +"onnx>=([0-9.]+)"', (root / "pyproject.toml").read_text(), re.M)
    assert tuple(map(int, floor.split("."))) >= (1, 21)


def test_the_floor_of_fields_is_far_above_honest_files(bert: Source) -> None:
    """Room for a hundred times the fields of a tiny encoder of two layers."""
    from qdeploy.onnx_file.messages import _Reader
    from qdeploy.onnx_file.structure import MAX_FIELDS, MAX_NODES

    content = (bert.directory / "model.onnx").read_bytes()
    reader = _Reader(content)
    reader.model(len(content))
    assert 100 * reader.read < MAX_FIELDS and 100 * reader.nodes < MAX_NODES


@pytest.mark.slow
def test_hundreds_of_hostile_files(tmp_path: Path) -> None:
    """Each is refused with a text or is legal; nothing outside is read, nothing takes long."""
    wrong = []
    for kind, path in hostile_files(tmp_path, 14, FILES):
        began = processor_s()
        try:
            result = str(qdeploy.inspect(path))
        except ModelError as error:
            result = ""
            text = str(error)
        else:
            text = result
        if result and kind in OUTSIDE:
            wrong.append((kind, path, "it was read"))
        if CANARY.decode() in text:
            wrong.append((kind, path, "the canary was told"))
        if processor_s() - began > SECONDS:
            wrong.append((kind, path, f"{processor_s() - began:.1f} s"))
        shutil.rmtree(path.parent.parent)
    assert not wrong
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 < BYTES
    assert onnx_files.MAX_BYTES < 2**31
