"""Repositories of the hub that hold an ONNX file alone: a snapshot's directory, and the hub id."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from huggingface_hub import constants

import qdeploy
from qdeploy.errors import CheckpointError
from qdeploy.exporter.from_onnx.source import hub_file_of, onnx_file_of
from qdeploy.files.artifact import sha256_file
from qdeploy.models import hub
from tests import foreign_files as foreign
from tests.exports import Exports

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMES = ("config.json", "tokenizer.json", "tokenizer_config.json")


def cached(cache: Path, files: Path, repository: str = "acme--onnx-alone") -> Path:
    """A snapshot as the hub's client lays it out: links to a folder of all blobs."""
    home = cache / f"models--{repository}"
    snapshot, blobs = home / "snapshots" / COMMIT, home / "blobs"
    blobs.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    for at, file in enumerate(sorted(path for path in files.rglob("*") if path.is_file())):
        link = snapshot / file.relative_to(files)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blobs / f"blob{at}")
        link.symlink_to(os.path.relpath(blobs / f"blob{at}", link.parent))
    return snapshot


@pytest.fixture
def files(tmp_path: Path, exported: Exports) -> Path:
    """What such a repository holds."""
    source, home = exported().checkpoint, tmp_path / "files"
    (home / "onnx").mkdir(parents=True)
    for name in NAMES:
        shutil.copy(source / name, home)
    (home / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    foreign.torchscript(source, home / "onnx" / "model.onnx")
    return home


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def test_a_file_with_its_weights_beside_it(tmp_path: Path, files: Path) -> None:
    file = files / "onnx" / "model.onnx"
    whole = qdeploy.export(file, tmp_path / "whole")
    model = onnx.load(file)
    onnx.save(model, file, save_as_external_data=True, location="model.onnx_data")
    apart = qdeploy.export(files, tmp_path / "apart")
    assert apart["verification"] == whole["verification"]
    assert apart["source"]["sha256"] != sha256_file(file)  # the weights count
    names = sorted(path.name for path in (tmp_path / "apart").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "whole").iterdir())


def test_a_directory_of_an_onnx_file_alone(tmp_path: Path, files: Path) -> None:
    (files / "onnx" / "model_quantized.onnx").write_bytes(b"another file")
    manifest = qdeploy.export(files, tmp_path / "out")
    assert manifest["source"]["path"] == str(files)
    assert manifest["licences"] == ["mit"]
    assert manifest["verification"]["max_rel_diff"] < 1e-5


@pytest.mark.parametrize("external", [False, True])
def test_a_snapshot_and_its_hub_id(
    external: bool, tmp_path: Path, files: Path, cache: Path
) -> None:
    """Links do not lead away from config.json, nor from weights that lie beside the graph."""
    file = files / "onnx" / "model.onnx"
    if external:
        model = onnx.load(file)
        onnx.save(model, file, save_as_external_data=True, location="model.onnx_data")
    snapshot = cached(cache, files)
    named = qdeploy.export(snapshot, tmp_path / "named")
    assert named["source"]["path"] == str(snapshot)

    manifest = qdeploy.export("acme/onnx-alone", tmp_path / "out")
    assert manifest["source"]["id"] == "acme/onnx-alone"
    assert manifest["source"]["revision"] == COMMIT
    assert manifest["source"]["sha256"] == named["source"]["sha256"]
    assert manifest["labels"] == named["labels"]
    assert (tmp_path / "out" / "model.onnx").read_bytes() == (
        tmp_path / "named" / "model.onnx"
    ).read_bytes()


def test_weights_go_first(files: Path, cache: Path, exported: Exports) -> None:
    shutil.copy(exported().checkpoint / "model.safetensors", files)
    snapshot = cached(cache, files)
    assert onnx_file_of(snapshot) is None
    assert hub_file_of("acme/onnx-alone") is None


def test_neither_weights_nor_a_graph(files: Path, cache: Path, tmp_path: Path) -> None:
    (files / "onnx" / "model.onnx").unlink()
    cached(cache, files)
    with pytest.raises(CheckpointError, match="safetensors"):
        qdeploy.export("acme/onnx-alone", tmp_path / "out")


def test_what_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The FP32 graph with its weights, and no quantized copy of it."""
    import huggingface_hub
    from huggingface_hub.utils._paths import filter_repo_objects

    asked: dict[str, Any] = {}

    def fetch(hub_id: str, **patterns: Any) -> str:
        asked.update(patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    hub.download_onnx("acme/onnx-alone")
    wanted = ["model.onnx", "onnx/model.onnx", "onnx/model.onnx_data", "onnx/model.onnx_data_1"]
    others = ["onnx/model_quantized.onnx", "model_fp16.onnx", "onnx/model_fp16.onnx_data", "x/y.py"]
    assert list(filter_repo_objects([*wanted, *others], **asked)) == wanted


def test_the_command_that_does_the_same(files: Path, cache: Path, tmp_path: Path) -> None:
    cached(cache, files)
    qdeploy.export("acme/onnx-alone", tmp_path / "out")
    told = json.loads((tmp_path / "out" / "qdeploy.json").read_text())
    assert told["command"].startswith("qdeploy export acme/onnx-alone ")
