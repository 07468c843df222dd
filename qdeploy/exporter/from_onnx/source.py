"""Find an ONNX file, and what belongs to it: config.json, tokenizer, pooling."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qdeploy.errors import CheckpointError
from qdeploy.exporter.checkpoint import (
    ADAPTER_CONFIG,
    CONFIG,
    TOKENIZER_FILES,
    Checkpoint,
    has_tokenizer,
)
from qdeploy.exporter.json_file import json_file
from qdeploy.exporter.sentence_parts import SentenceParts, check_pickles, find_parts
from qdeploy.files.artifact import MANIFEST
from qdeploy.files.scratch import scratch
from qdeploy.models import hub
from qdeploy.sentence_layout import MODULES

SUFFIX = ".onnx"
_FOLDER = "onnx"  # of the hub's layouts, beside config.json and tokenizer
_PREFERRED = "model.onnx"
_BLOBS = "blobs"  # of a repository in the hub's cache
_DATA = ("_data", ".data")  # how files of weights beside a graph end
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", ADAPTER_CONFIG)
_SHOWN = 8  # files named in a text


@dataclass(frozen=True)
class OnnxSource:
    """An ONNX file with what it needs.

    Attributes:
        file: the ONNX file.
        checkpoint: name, config.json, tokenizer and parts, as of a checkpoint.
    """

    file: Path
    checkpoint: Checkpoint

    @property
    def parts(self) -> SentenceParts | None:
        """What stands behind the encoder of an embedding model."""
        return self.checkpoint.parts

    def origin(self) -> dict[str, str]:
        """What the manifest says of it: path or hub id, digest, and the commit of a hub."""
        name, found = self.checkpoint.name, self.checkpoint.source()
        if Path(name).expanduser().exists():
            return {"path": name, "sha256": found["sha256"]}
        return {"id": name} | {key: found[key] for key in ("sha256", "revision") if key in found}


def onnx_file_of(checkpoint: str | Path) -> Path | None:
    """The ONNX file that a user named, or the one of a directory without weights; else None.

    Raises:
        CheckpointError: a directory with several files, none of them called model.onnx.
    """
    path = Path(checkpoint).expanduser()
    if path.suffix.lower() == SUFFIX and not path.is_dir():
        if path.is_file():
            return path
        raise CheckpointError(f"{path} does not exist. Pass an ONNX file, or a checkpoint.")
    if not path.is_dir() or (path / MANIFEST).is_file() or _has_weights(path):
        return None
    folders = [folder for folder in (path, path / _FOLDER) if folder.is_dir()]
    for folder in folders:
        if (folder / _PREFERRED).is_file():
            return folder / _PREFERRED
    files = [file for folder in folders for file in sorted(folder.glob(f"*{SUFFIX}"))]
    if len(files) > 1:
        listed = ", ".join(str(file.relative_to(path)) for file in files[:_SHOWN])
        raise CheckpointError(
            f"{path} has {len(files)} ONNX files and no {_PREFERRED}: {listed}. Name the one in "
            "FP32 that no optimizer has changed, as in "
            f"`qdeploy export {files[0]} MODEL_DIR`."
        )
    return files[0] if files else None


def hub_file_of(name: str, *, allow_pickle: bool = False) -> Path | None:
    """The ONNX file of a hub repository that has no weights of a checkpoint; else None.

    Raises:
        CheckpointError: it cannot be fetched.
    """
    if Path(name).expanduser().exists() or not hub.is_hub_id(name):
        return None
    try:
        directory = hub.download(name, allow_pickle=allow_pickle)
    except CheckpointError:
        return None  # what is wrong with the id is told where checkpoints are found
    return None if _has_weights(directory) else onnx_file_of(hub.download_onnx(name))


def _has_weights(directory: Path) -> bool:
    """Whether a directory is a checkpoint, which goes before ONNX files beside it."""
    encoders = [directory, directory / "0_Transformer"]
    return any(any(folder.glob(pattern)) for folder in encoders for pattern in _WEIGHTS)


@contextlib.contextmanager
def without_links(source: OnnxSource) -> Iterator[OnnxSource]:
    """The same with its graph and weights as plain files, while the block lasts.

    In the hub's cache every file is a link into one folder of blobs. Weights that are links are
    refused elsewhere, since they may lead anywhere; those that lead to the blobs of the graph's own
    repository are its own.
    """
    blobs = source.file.resolve().parent
    data = [
        path
        for path in source.file.parent.iterdir()
        if path.name.startswith(source.file.name) or path.name.endswith(_DATA)
        if path.is_symlink() and path.is_file() and path.resolve().parent == blobs
    ]
    if not source.file.is_symlink() or blobs.name != _BLOBS or len(data) < 2:
        yield source
        return
    with scratch("export") as folder:
        for path in data:
            shutil.copyfile(path, folder / path.name)
        yield replace(source, file=folder / source.file.name)


def find_source(
    name: str, file: Path, tokenizer: str | Path | None, *, allow_pickle: bool = False
) -> OnnxSource:
    """What belongs to a file, in the directory that was named, beside it, or above `onnx/`.

    Args:
        name: as the user typed it.
        file: from `onnx_file_of`.
        tokenizer: directory with tokenizer files and config.json, or None.
        allow_pickle: read pickled weights of the parts.

    Raises:
        CheckpointError: config.json or tokenizer is missing, or a part is not known.
    """
    places = _places(file, tokenizer)
    home = next((place for place in places if (place / MODULES).is_file()), None)
    parts = None if home is None else find_parts(home)
    if parts is not None:
        check_pickles(parts, allow_pickle=allow_pickle)
        places += [] if parts.encoder is None else [parts.encoder]
    configured = _first(places, lambda place: (place / CONFIG).is_file())
    if configured is None:
        raise CheckpointError(
            f"There is no {CONFIG} in {_listed(places)}: it says what the classes are called and "
            f"how long a row may be. Copy it there from the model's page, or pass --tokenizer DIR."
        )
    encoder = _first(places, has_tokenizer)
    if encoder is None:
        raise CheckpointError(
            f"There is no tokenizer in {_listed(places)}: none of {', '.join(TOKENIZER_FILES)}. "
            "Pass the directory of the one that the model was trained with: --tokenizer DIR."
        )
    config = json_file(configured / CONFIG, dict)
    return OnnxSource(
        file,
        Checkpoint(
            name=name,
            directory=file.parent.parent if file.parent.name == _FOLDER else file.parent,
            weights=(file,),
            config_directory=configured,
            config=config,
            tokenizer=encoder,
            parts=parts,
        ),
    )


def _places(file: Path, tokenizer: str | Path | None) -> list[Path]:
    if tokenizer is not None:
        given = Path(tokenizer).expanduser()
        if not given.is_dir():
            raise CheckpointError(
                f"{given} is no directory. --tokenizer takes the directory that has tokenizer.json "
                f"and {CONFIG}."
            )
        beside = [given, file.parent]
    else:
        beside = [file.parent]
    # as it was named first: in the hub's cache files are links to a folder of all blobs
    folders = dict.fromkeys([Path(os.path.abspath(file)).parent, file.resolve().parent])
    return beside + [folder.parent for folder in folders if folder.name == _FOLDER]


def _first(places: Sequence[Path], holds: object) -> Path | None:
    assert callable(holds)
    return next((place for place in places if holds(place)), None)


def _listed(places: Iterable[Path]) -> str:
    return " or ".join(str(place) for place in dict.fromkeys(places))
