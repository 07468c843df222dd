"""The weight files of a checkpoint directory: which there are, and whether they are whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from qdeploy.errors import CheckpointError

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"
_LFS_POINTER = b"version https://git-lfs"


def find_weights(directory: Path, *, allow_pickle: bool) -> tuple[Path, ...]:
    """The weight files of a Hugging Face directory, in one or several shards, each of them whole.

    Args:
        directory: with `model.safetensors`, or an index of shards.
        allow_pickle: take `pytorch_model.bin` when there are no safetensors.

    Raises:
        CheckpointError: no weights, pickles only, a missing shard, or a truncated file.
    """
    files = _listed(directory, SAFETENSORS)
    if files:
        return check_safetensors(files)
    pickles = _listed(directory, PICKLE)
    if pickles and allow_pickle:
        return pickles
    if pickles:
        raise CheckpointError(
            f"{directory} has its weights in a pickle only ({pickles[0].name}), and reading a "
            "pickle can run code of its author. Convert it to safetensors "
            "(`model.save_pretrained(...)`), or pass --allow-pickle if you trust it."
        )
    raise CheckpointError(
        f"{directory} holds no {SAFETENSORS}, whole or in shards. Save the model there with "
        "`model.save_pretrained(...)`; for a hub repository with pickled weights only, pass "
        "--allow-pickle."
    )


def adapter_weights(directory: Path, *, allow_pickle: bool) -> Path:
    """The weight file of a PEFT adapter directory, whole.

    Raises:
        CheckpointError: no weights, a pickle only, or a truncated file.
    """
    path = directory / "adapter_model.safetensors"
    if path.is_file():
        return check_safetensors([path])[0]
    pickle = directory / "adapter_model.bin"
    if not pickle.is_file():
        raise CheckpointError(
            f"{directory} has an adapter_config.json but no {path.name}. Save the adapter again "
            "with `model.save_pretrained(...)`."
        )
    if not allow_pickle:
        raise CheckpointError(
            f"{pickle} is a pickle, and reading one can run code of its author. Save the adapter "
            "again with a current peft, or pass --allow-pickle if you trust it."
        )
    return pickle


def check_safetensors(files: Iterable[Path]) -> tuple[Path, ...]:
    """Read the header of each file, which covers every byte of it.

    Raises:
        CheckpointError: a file that is missing, truncated, or no safetensors file at all.
    """
    files = tuple(files)
    for path in files:
        _check(path)
    return files


def _check(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(
            f"{path} is missing: the index lists it among the shards. Copy or download the "
            "checkpoint again, whole."
        )
    size = path.stat().st_size
    with path.open("rb") as stream:
        if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise CheckpointError(
                f"{path} is a Git LFS pointer of {size} bytes, not the weights. Run `git lfs pull` "
                "in that repository."
            )
    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} ({size} bytes) is truncated or not a safetensors file: {error}. Copy or "
            "download it again."
        ) from error


def _listed(directory: Path, name: str) -> tuple[Path, ...]:
    """The single file, or the shards of its index, or nothing."""
    if (directory / name).is_file():
        return (directory / name,)
    index = directory / f"{name}.index.json"
    if not index.is_file():
        return ()
    try:
        shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{index} is not an index of shards: {error!r}. Copy or download it again."
        ) from error
    return tuple(directory / shard for shard in sorted(shards))


def stored_shapes(files: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors of weight files.

    Args:
        files: whole; of pickles only those that may be read.
    """
    found: dict[str, tuple[int, ...]] = {}
    for file in files:
        found.update(_safetensors(file) if file.suffix == ".safetensors" else _pickled(file))
    return found


def _safetensors(file: Path) -> dict[str, tuple[int, ...]]:
    from safetensors import safe_open

    with safe_open(file, framework="np") as reader:
        return {name: tuple(reader.get_slice(name).get_shape()) for name in reader.keys()}  # noqa: SIM118


def _pickled(file: Path) -> dict[str, tuple[int, ...]]:
    import torch

    tensors = torch.load(file, map_location="cpu", weights_only=True)
    return {name: tuple(t.shape) for name, t in tensors.items() if hasattr(t, "shape")}
