"""Finding a checkpoint and vetting its files: what is accepted, and the text of every refusal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from qdeploy.errors import CheckpointError
from qdeploy.exporter.checkpoint import Checkpoint, find_checkpoint
from qdeploy.models import embedded
from tests.tiny import tiny_adapter


def refused(text: str, checkpoint: str | Path, **options: bool) -> None:
    """Expect a refusal whose message matches a regular expression."""
    with pytest.raises(CheckpointError, match=text):
        find_checkpoint(checkpoint, **options)


def change(file: Path, **fields: Any) -> None:
    """Set fields of a JSON file; None removes one."""
    content = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub client without a network."""

    def unreachable(*args: object, **options: object) -> str:
        raise huggingface_hub.errors.LocalEntryNotFoundError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)


def test_directory(bert: Path) -> None:
    found = find_checkpoint(bert)
    assert (found.directory, found.adapter) == (bert, None)
    assert found.weights == (bert / "model.safetensors",)
    assert found.source()["path"] == str(bert)
    assert re.fullmatch("[0-9a-f]{64}", found.source()["sha256"])


def test_wrong_path() -> None:
    refused("/no/such/place does not exist. Pass the directory of a checkpoint", "/no/such/place")


@pytest.mark.usefixtures("offline")
def test_wrong_name_that_could_be_a_hub_id() -> None:
    refused(
        "There is no directory 'bert-qnli' here, and as a hub id 'bert-qnli' could not be fetched "
        "from the Hugging Face hub: Name or service not known. Check the id and the network",
        "bert-qnli",
    )


def test_hub_id(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def fetch(hub_id: str, **options: Any) -> str:
        asked.append({"id": hub_id, **options})
        return str(bert)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert find_checkpoint("acme/bert").source()["id"] == "acme/bert"
    assert asked[0]["id"] == "acme/bert"
    assert not {"*.bin", "*.py"} & set(asked[0]["allow_patterns"])
    find_checkpoint("acme/bert", allow_pickle=True, trust_remote_code=True)
    assert {"*.bin", "*.py"} <= set(asked[1]["allow_patterns"])


def test_file_instead_of_directory(bert: Path) -> None:
    refused("is a file; a checkpoint is a directory.*Pass its directory", bert / "config.json")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "rows.csv",
            "is a file of rows, .*Pass the checkpoint here, and the rows to `qdeploy build",
        ),
        ("rows.parquet", "is a file of rows"),
        (
            "notes.txt",
            "is a file; a checkpoint is a directory.* is none, either: pass the directory",
        ),
    ],
)
def test_a_file_that_is_no_part_of_a_checkpoint(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("text,label\n")
    refused(text, tmp_path / name)


def test_no_config(damaged: Path) -> None:
    (damaged / "config.json").unlink()
    refused("has no config.json, so it is not a Hugging Face checkpoint. Pass the", damaged)


def test_broken_config(damaged: Path) -> None:
    (damaged / "config.json").write_text('{"model_type": ')
    refused("config.json cannot be read as JSON: .*download it again", damaged)
    (damaged / "config.json").write_text("[]")
    refused("config.json holds no JSON object", damaged)


def test_unknown_architecture(damaged: Path) -> None:
    change(damaged / "config.json", model_type="brt")
    refused(
        "architecture 'brt', which .* does not know.*pip install --upgrade transformers",
        damaged,
    )
    change(damaged / "config.json", model_type=None)
    refused("has no 'model_type'.*Add it", damaged)


def test_remote_code_needs_consent(damaged: Path) -> None:
    change(damaged / "config.json", model_type="own", auto_map={"AutoConfig": "own.Config"})
    refused("needs modelling code that comes with the checkpoint.*--trust-remote-code", damaged)
    assert find_checkpoint(damaged, trust_remote_code=True).trust_remote_code


def test_quantized_checkpoint(damaged: Path) -> None:
    change(damaged / "config.json", quantization_config={"quant_method": "gptq"})
    refused("is quantized already.*Pass the checkpoint before quantization", damaged)


def test_model_directory_of_qdeploy(damaged: Path) -> None:
    (damaged / "qdeploy.json").write_text("{}")
    refused("was written by qdeploy already.*`qdeploy build`", damaged)


def test_missing_tokenizer(damaged: Path) -> None:
    (damaged / "tokenizer.json").unlink()
    refused("has no tokenizer: none of tokenizer.json.*tokenizer.save_pretrained", damaged)


def test_truncated_weights(damaged: Path) -> None:
    file = damaged / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    size = file.stat().st_size
    refused(rf"model.safetensors \({size} bytes\) is truncated.*download it again", damaged)
    file.write_bytes(b"")
    refused(r"model.safetensors \(0 bytes\) is truncated", damaged)


def test_git_lfs_pointer(damaged: Path) -> None:
    (damaged / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid 1")
    refused("is a Git LFS pointer of .* bytes.*`git lfs pull`", damaged)


def test_no_weights(damaged: Path) -> None:
    (damaged / "model.safetensors").unlink()
    refused("holds no model.safetensors, whole or in shards", damaged)


def test_pickle_needs_consent(damaged: Path) -> None:
    (damaged / "model.safetensors").rename(damaged / "pytorch_model.bin")
    refused(r"in a pickle only \(pytorch_model.bin\).*pass --allow-pickle if you trust it", damaged)
    assert find_checkpoint(damaged, allow_pickle=True).weights[0].name == "pytorch_model.bin"


def test_shards(damaged: Path) -> None:
    (damaged / "model.safetensors").rename(damaged / "model-00001-of-00002.safetensors")
    index = damaged / "model.safetensors.index.json"
    shards = {"a": "model-00001-of-00002.safetensors"}
    index.write_text(json.dumps({"weight_map": shards}))
    assert [path.name for path in find_checkpoint(damaged).weights] == list(shards.values())
    shards["b"] = "model-00002-of-00002.safetensors"
    index.write_text(json.dumps({"weight_map": shards}))
    refused("model-00002-of-00002.safetensors is missing: the index lists it", damaged)
    index.write_text("{}")
    refused("is not an index of shards", damaged)


class TestAdapter:
    """PEFT adapter directories."""

    @pytest.fixture
    def adapter(self, bert: Path, tmp_path: Path) -> Path:
        return tiny_adapter(tmp_path / "adapter", bert)

    def base(self, adapter: Path, name: str | None) -> None:
        change(adapter / "adapter_config.json", base_model_name_or_path=name)

    def test_found_with_its_base(self, adapter: Path, bert: Path) -> None:
        found = find_checkpoint(adapter)
        assert (found.directory, found.tokenizer, found.adapter) == (bert, bert, adapter)

    def test_own_config_and_tokenizer_count(self, adapter: Path, bert: Path) -> None:
        for name in ("config.json", "tokenizer.json"):
            (adapter / name).write_bytes((bert / name).read_bytes())
        found = find_checkpoint(adapter)
        assert (found.config_directory, found.tokenizer) == (adapter, adapter)

    def test_base_beside_the_adapter(self, adapter: Path, bert: Path) -> None:
        (adapter.parent / "base").symlink_to(bert)
        self.base(adapter, "../base")
        assert find_checkpoint(adapter).directory.resolve() == bert.resolve()

    @pytest.mark.usefixtures("offline")
    def test_base_that_cannot_be_found(self, adapter: Path) -> None:
        self.base(adapter, "/gone/base")
        refused("adapter of the base model /gone/base, which does not exist. Set", adapter)
        self.base(adapter, "acme/gone")
        refused('base model acme/gone, which is not here: .*hub.*Set "base_model_name', adapter)
        self.base(adapter, None)
        refused("does not name a base model. Set", adapter)

    def test_base_of_the_embedded_model_is_the_package(
        self, adapter: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.base(adapter, embedded.HUB_ID)
        monkeypatch.setattr(embedded, "base_checkpoint", lambda: bert)
        assert find_checkpoint(adapter).directory == bert

    def test_missing_weights(self, adapter: Path) -> None:
        (adapter / "adapter_model.safetensors").unlink()
        refused("has an adapter_config.json but no adapter_model.safetensors", adapter)

    def test_truncated_weights(self, adapter: Path) -> None:
        file = adapter / "adapter_model.safetensors"
        file.write_bytes(file.read_bytes()[:-1])
        refused("adapter_model.safetensors .* is truncated", adapter)

    def test_pickle_needs_consent(self, adapter: Path) -> None:
        (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
        refused("adapter_model.bin is a pickle.*--allow-pickle", adapter)
        assert find_checkpoint(adapter, allow_pickle=True).adapter_file is not None


def test_embedded_name(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = tiny_adapter(tmp_path / "adapter", bert)
    monkeypatch.setattr(embedded, "ADAPTER", adapter)
    monkeypatch.delenv(embedded.ADAPTER_VARIABLE, raising=False)
    found: Checkpoint = find_checkpoint("embedded")
    assert (found.adapter, found.labels) == (adapter, ("entailment", "not_entailment"))
    assert found.source()["id"] == "embedded"
