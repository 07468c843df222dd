"""Hub ids and fetching, with the client replaced: no test needs a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.utils._paths import filter_repo_objects
from huggingface_hub.utils.tqdm import are_progress_bars_disabled

from qdeploy.errors import CheckpointError
from qdeploy.models.hub import download, is_hub_id


@pytest.mark.parametrize("text", ["bert-base-uncased", "acme/bert.v2_x", "a/b"])
def test_hub_ids(text: str) -> None:
    assert is_hub_id(text)


@pytest.mark.parametrize("text", ["./bert", "../x", "/abs", "a/b/c", "a/", "", "a b", "~/x", "-x"])
def test_paths_are_not(text: str) -> None:
    assert not is_hub_id(text)


def test_download_asks_for_no_pickles_and_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def fetch(hub_id: str, **options: Any) -> str:
        asked.update(options)
        assert are_progress_bars_disabled()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert download("acme/bert") == tmp_path
    assert asked["allow_patterns"] == ["*.json", "*.safetensors", "*.txt", "*.model", "README.md"]
    # parts of a model of sentence-transformers, and no copies for other frameworks
    files = [
        "config.json",
        "1_Pooling/config.json",
        "onnx/config.json",
        "2_Dense/model.safetensors",
    ]
    patterns = {name: asked[name] for name in ("allow_patterns", "ignore_patterns")}
    assert list(filter_repo_objects(files, **patterns)) == [files[0], files[1], files[3]]
    assert not are_progress_bars_disabled()
    download("acme/bert", allow_pickle=True, trust_remote_code=True)
    assert asked["allow_patterns"][-2:] == ["*.bin", "*.py"]


@pytest.mark.parametrize("end", [".", "", ": "])
def test_failure_says_why(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(hub_id: str, **options: Any) -> str:
        raise RuntimeError(f"401 Unauthorized{end}\nRequest ID 1")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    text = r"'acme/bert' could not be fetched .*: 401 Unauthorized\. Check the id and the network"
    with pytest.raises(CheckpointError, match=text):
        download("acme/bert")
