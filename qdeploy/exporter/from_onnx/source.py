"""Find an ONNX file, and what belongs to it: config.json, tokenizer, pooling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
from qdeploy.sentence_layout import MODULES

SUFFIX = ".onnx"
_FOLDER = "onnx"  # of the hub's layouts, beside config.json and tokenizer
_PREFERRED = "model.onnx"
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


def _has_weights(directory: Path) -> bool:
    """Whether a directory is a checkpoint, which goes before ONNX files beside it."""
    encoders = [directory, directory / "0_Transformer"]
    return any(any(folder.glob(pattern)) for folder in encoders for pattern in _WEIGHTS)


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
            directory=file.parent,
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
    above = file.resolve().parent
    return beside + ([above.parent] if above.name == _FOLDER else [])


def _first(places: Sequence[Path], holds: object) -> Path | None:
    assert callable(holds)
    return next((place for place in places if holds(place)), None)


def _listed(places: Iterable[Path]) -> str:
    return " or ".join(str(place) for place in dict.fromkeys(places))
