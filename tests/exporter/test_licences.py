"""Licences that checkpoints name, and the commit that they are of."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from qdeploy.exporter.checkpoint import find_checkpoint
from qdeploy.exporter.licences import licences_of
from tests.exports import Exports


@pytest.fixture
def checkpoint(exported: Exports, tmp_path: Path) -> Path:
    return shutil.copytree(exported().checkpoint, tmp_path / "checkpoint")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("---\nlicense: apache-2.0\ntags:\n- bert\n---\n# Model\n", ["apache-2.0"]),
        ("---\nlicense: [mit, cc-by-4.0, mit]\n---\n", ["mit", "cc-by-4.0"]),
        ("---\nlicense: other\nlicense_name: acme-1\n---\n", ["acme-1"]),
        ("---\nlicense: other\n---\n", ["other"]),
        ("---\ntags: []\n---\nlicense: mit\n", []),
        ("# Model\n\nlicense: mit\n", []),
        ("---\nlicense: [\n---\n", []),
        ("---\nlicense: 3\n---\n", []),
        ("---\n- license\n---\n", []),
    ],
)
def test_front_matter(checkpoint: Path, text: str, names: list[str]) -> None:
    (checkpoint / "README.md").write_text(text, "utf-8")
    assert licences_of(find_checkpoint(checkpoint)) == names


def test_no_readme_and_the_embedded_default(checkpoint: Path, exported: Exports) -> None:
    assert licences_of(find_checkpoint(checkpoint)) == []
    assert exported().manifest["licences"] == []
    assert licences_of(find_checkpoint("embedded")) == ["apache-2.0"]


def test_a_snapshot_of_the_hub_has_its_commit(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "c" * 40
    place = tmp_path / "hub" / "models--acme--bert" / "snapshots" / commit
    shutil.copytree(checkpoint, place)
    monkeypatch.setattr("qdeploy.models.hub.download", lambda *_, **__: place)
    found = find_checkpoint("acme/bert").source()
    assert found["id"] == "acme/bert" and found["revision"] == commit
    assert "revision" not in find_checkpoint(checkpoint).source()
