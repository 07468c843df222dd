"""Manifests and JSON of our directories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qdeploy.errors import ModelError
from qdeploy.files import artifact
from qdeploy.files.artifact import MANIFEST, read_json, read_manifest, write_json, write_manifest
from tests.manifests import fields


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A directory with one file and its manifest."""
    directory = tmp_path / "out"
    directory.mkdir()
    (directory / "model.onnx").write_text("old")
    write_manifest(directory, "model", fields("model", seed=0))
    return directory


def test_the_manifest_holds_the_hash_of_every_file(whole: Path) -> None:
    manifest = read_manifest(whole, "model")
    assert manifest["files"] == {"model.onnx": artifact.sha256_file(whole / "model.onnx")}
    assert manifest["seed"] == 0
    assert manifest["versions"]["numpy"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"kind": "engine"}, "is of kind 'engine', and a model directory was expected"),
        ({"schema": artifact.SCHEMA + 1}, "written by a newer qdeploy"),
    ],
)
def test_a_wrong_manifest_is_said(whole: Path, change: dict[str, object], text: str) -> None:
    manifest = json.loads((whole / MANIFEST).read_text())
    write_json(whole / MANIFEST, manifest | change)
    with pytest.raises(ModelError, match=text):
        read_manifest(whole, "model")


@pytest.mark.parametrize("source", [{"path": "/m"}, {"id": "org/name"}])
def test_a_model_comes_from_a_folder_or_from_a_hub(tmp_path: Path, source: dict[str, str]) -> None:
    given = {"source": source | {"sha256": "0" * 64}}
    write_manifest(tmp_path, "model", fields("model", **given))
    assert read_manifest(tmp_path, "model")["source"] == given["source"]


@pytest.mark.parametrize("source", [{}, {"path": "/m", "id": "org/name"}, {"id": ""}])
def test_a_model_comes_from_one_place(tmp_path: Path, source: dict[str, str]) -> None:
    given = {"source": source | {"sha256": "0" * 64}}
    write_manifest(tmp_path, "model", fields("model", **given))
    with pytest.raises(ModelError, match="source"):
        read_manifest(tmp_path, "model")


def test_a_missing_directory_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"does not exist.* `qdeploy export`"):
        read_manifest(tmp_path / "nowhere", "model")
    with pytest.raises(ModelError, match=r"holds no qdeploy\.json.* `qdeploy build`"):
        read_manifest(tmp_path, "engine")


@pytest.mark.parametrize("content", ["{", "\x00", ""])
def test_broken_json_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        read_json(tmp_path / "x.json")


def test_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": 1, "y": "é"})
    write_json(tmp_path / "b", {"y": "é", "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
