"""Find a checkpoint (directory, hub id, PEFT adapter, `embedded`) and vet its files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from qdeploy.data.readers import READERS
from qdeploy.errors import CheckpointError
from qdeploy.exporter.json_file import json_file
from qdeploy.exporter.sentence_parts import SentenceParts, check_pickles, find_parts
from qdeploy.exporter.weight_files import adapter_weights, find_weights
from qdeploy.files.artifact import MANIFEST, sha256_file
from qdeploy.machine.remedies import upgrade_command
from qdeploy.models import embedded, hub
from qdeploy.types import Json

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
_COMMIT = re.compile("[0-9a-f]{40}")  # as the hub's cache names the folder of a revision
# Any of these lets transformers build a tokenizer.
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files are all there and whole.

    Attributes:
        name: as the user typed it.
        directory: of the (base) weights.
        weights: their files.
        config_directory: whose `config.json` counts: the adapter's where it has one.
        config: that file.
        tokenizer: directory of the tokenizer: the adapter's where it has one.
        adapter: PEFT adapter directory, or None.
        adapter_config: its `adapter_config.json`, or None.
        adapter_file: its weights, or None.
        labels: class names that the files do not tell, or None.
        trust_remote_code: whether code of the checkpoint may run.
        parts: what stands behind the encoder of an embedding model; None of other checkpoints.
    """

    name: str
    directory: Path
    weights: tuple[Path, ...]
    config_directory: Path
    config: dict[str, Json]
    tokenizer: Path
    adapter: Path | None = None
    adapter_config: dict[str, Json] | None = None
    adapter_file: Path | None = None
    labels: tuple[str, ...] | None = None
    trust_remote_code: bool = False
    parts: SentenceParts | None = None

    @property
    def directories(self) -> tuple[Path, ...]:
        """Every directory that is read."""
        return (self.directory, *([self.adapter] if self.adapter else []))

    def source(self) -> dict[str, str]:
        """What the manifest says of it: path or hub id, the sha256 of all its weights, and the
        commit of the hub that they are of, where it is one."""
        kind = "path" if Path(self.name).is_dir() else "id"
        commit = _COMMIT.fullmatch(self.directory.name)
        revision = {"revision": commit[0]} if commit and kind == "id" else {}
        files = [*self.weights, *([self.adapter_file] if self.adapter_file else [])]
        files += [] if self.parts is None else self.parts.weights
        if len(files) == 1:
            return {kind: self.name, "sha256": sha256_file(files[0]), **revision}
        digests = "\n".join(f"{path.name} {sha256_file(path)}" for path in files)
        digest = hashlib.sha256(digests.encode()).hexdigest()
        return {kind: self.name, "sha256": digest, **revision}


def find_checkpoint(
    checkpoint: str | Path, *, allow_pickle: bool = False, trust_remote_code: bool = False
) -> Checkpoint:
    """Find a checkpoint and check that its files are there and whole.

    Args:
        checkpoint: Hugging Face directory, hub id, PEFT adapter directory (or hub id of one), or
            "embedded".
        allow_pickle: accept weights in pickles.
        trust_remote_code: accept modelling code that comes with the checkpoint.

    Raises:
        CheckpointError: with what is wrong and what to do.
    """
    name = str(checkpoint)
    consent = {"allow_pickle": allow_pickle, "trust_remote_code": trust_remote_code}
    if name == embedded.NAME:
        return _with_adapter(name, embedded.adapter_directory(), embedded.LABELS, consent)
    directory = _directory(name, consent)
    if (directory / ADAPTER_CONFIG).is_file():
        return _with_adapter(name, directory, None, consent)
    parts = _parts(directory, allow_pickle=allow_pickle)
    if parts is not None:
        directory = parts.encoder or directory
    config = _config(directory, trust_remote_code=trust_remote_code)
    _check_tokenizer(directory)
    return Checkpoint(
        name=name,
        directory=directory,
        weights=find_weights(directory, allow_pickle=allow_pickle),
        config_directory=directory,
        config=config,
        tokenizer=directory,
        trust_remote_code=trust_remote_code,
        parts=parts,
    )


def _directory(name: str, consent: dict[str, bool]) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        fact = f"a checkpoint is a directory with {CONFIG}, weights and tokenizer"
        if path.suffix.lower() in READERS:
            raise CheckpointError(
                f"{name} is a file of rows, and {fact}. Pass the checkpoint here, and the rows to "
                "`qdeploy build --data`."
            )
        if any((path.parent / part).is_file() for part in (CONFIG, ADAPTER_CONFIG)):
            way = f"Pass its directory: {path.parent}."
        else:
            way = f"{path.parent} is none, either: pass the directory that has its {CONFIG}."
        raise CheckpointError(f"{name} is a file; {fact}. {way}")
    if path.is_dir():
        return path
    if not hub.is_hub_id(name):
        raise CheckpointError(
            f"{name} does not exist. Pass the directory of a checkpoint, a hub id such as "
            "acme/bert-base-qnli, or `embedded`."
        )
    try:
        return hub.download(name, **consent)
    except CheckpointError as error:
        raise CheckpointError(
            f"There is no directory '{name}' here, and as a hub id {error}"
        ) from (error)


def _with_adapter(
    name: str, adapter: Path, labels: tuple[str, ...] | None, consent: dict[str, bool]
) -> Checkpoint:
    adapter_config = json_file(adapter / ADAPTER_CONFIG, dict)
    file = adapter_weights(adapter, allow_pickle=consent["allow_pickle"])
    base = _base_of(adapter, adapter_config, consent)
    parts = _parts(adapter, allow_pickle=consent["allow_pickle"])
    config_directory = adapter if (adapter / CONFIG).is_file() else base
    tokenizer = adapter if has_tokenizer(adapter) else base
    _check_tokenizer(tokenizer)
    return Checkpoint(
        name=name,
        directory=base,
        weights=find_weights(base, allow_pickle=consent["allow_pickle"]),
        config_directory=config_directory,
        config=_config(config_directory, trust_remote_code=consent["trust_remote_code"]),
        tokenizer=tokenizer,
        adapter=adapter,
        adapter_config=adapter_config,
        adapter_file=file,
        labels=labels,
        trust_remote_code=consent["trust_remote_code"],
        parts=parts,
    )


def _parts(directory: Path, *, allow_pickle: bool) -> SentenceParts | None:
    """What stands behind the encoder of an embedding model, its weights vetted; else None."""
    parts = find_parts(directory)
    if parts is not None:
        check_pickles(parts, allow_pickle=allow_pickle)
    return parts


def _base_of(adapter: Path, config: dict[str, Json], consent: dict[str, bool]) -> Path:
    """The base checkpoint that an adapter names: packaged, a directory, or on the hub."""
    base = str(config.get("base_model_name_or_path") or "")
    if not base:
        raise CheckpointError(
            f"{adapter / ADAPTER_CONFIG} does not name a base model. Set "
            '"base_model_name_or_path" in it to the directory or hub id of the base.'
        )
    if base == embedded.HUB_ID:
        return embedded.base_checkpoint()
    for path in (Path(base).expanduser(), adapter / base):
        if path.is_dir():
            return path
    advice = (
        f'Set "base_model_name_or_path" in {adapter / ADAPTER_CONFIG} to the base\'s directory.'
    )
    if not hub.is_hub_id(base):
        raise CheckpointError(
            f"{adapter} is an adapter of the base model {base}, which does not exist. {advice}"
        )
    try:
        return hub.download(base, **consent)
    except CheckpointError as error:
        raise CheckpointError(
            f"{adapter} is an adapter of the base model {base}, which is not here: {error} {advice}"
        ) from error


def _config(directory: Path, *, trust_remote_code: bool) -> dict[str, Json]:
    """Read `config.json` and check that transformers can make a model of it."""
    path = directory / CONFIG
    if (directory / MANIFEST).is_file():
        raise CheckpointError(
            f"{directory} was written by qdeploy already: it holds a {MANIFEST}. Pass it to "
            "`qdeploy build` or `qdeploy inspect`, or name the checkpoint it came from."
        )
    if not path.is_file():
        raise CheckpointError(
            f"{directory} has no {CONFIG}, so it is not a Hugging Face checkpoint. Pass the "
            "directory that `model.save_pretrained(...)` wrote."
        )
    config: dict[str, Json] = json_file(path, dict)
    if config.get("quantization_config"):
        raise CheckpointError(
            f"{directory} is quantized already ({CONFIG} has a quantization_config), and qdeploy "
            "starts from float weights. Pass the checkpoint before quantization."
        )
    _check_model_type(path, config, trust_remote_code=trust_remote_code)
    return config


def _check_model_type(path: Path, config: dict[str, Json], *, trust_remote_code: bool) -> None:
    from transformers import __version__
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    model_type = config.get("model_type")
    if model_type is not None and not isinstance(model_type, str):
        raise CheckpointError(
            f"{path} sets model_type to {model_type!r}, and the name of an architecture is needed, "
            'as in "model_type": "bert".'
        )
    if model_type in CONFIG_MAPPING_NAMES or (trust_remote_code and config.get("auto_map")):
        return
    if config.get("auto_map"):
        raise CheckpointError(
            f"{path} needs modelling code that comes with the checkpoint (architecture "
            f"'{model_type}'), which is not run unasked. Read that code, then pass "
            "--trust-remote-code."
        )
    if model_type is None:
        raise CheckpointError(
            f"{path} has no 'model_type', so its architecture is not known. Add it (for example "
            '"model_type": "bert"), or save the model again with `model.save_pretrained(...)`.'
        )
    raise CheckpointError(
        f"{path} names the architecture '{model_type}', which transformers {__version__} does not "
        f"know. Correct a spelling mistake there, or upgrade with "
        f"`{upgrade_command('transformers')}`."
    )


def has_tokenizer(directory: Path) -> bool:
    """Whether transformers can make a tokenizer of what a directory holds."""
    return any((directory / name).is_file() for name in TOKENIZER_FILES)


def _check_tokenizer(directory: Path) -> None:
    # transformers would build an empty tokenizer in silence and every text would become [UNK]
    if not has_tokenizer(directory):
        raise CheckpointError(
            f"{directory} has no tokenizer: none of {', '.join(TOKENIZER_FILES)} is there. Save "
            "the one the model was trained with: `tokenizer.save_pretrained(...)` into that "
            "directory."
        )
