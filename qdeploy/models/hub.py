"""Checkpoints of the Hugging Face hub: what a hub id looks like, and fetching its files."""

from __future__ import annotations

import re
from pathlib import Path

from qdeploy.errors import CheckpointError

# "name" or "owner/name", the characters that the hub allows.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
# Configuration, tokenizer and safetensors; pickles and code only when they are asked for.
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "README.md")
# The FP32 graph where a repository has one, and its weights beside it; not its quantized copies.
_GRAPHS = ("model.onnx", "model.onnx_data*", "model.onnx.data")


def is_hub_id(text: str) -> bool:
    """Whether a word can be a hub id rather than a path.

    >>> is_hub_id("acme/bert-qnli"), is_hub_id("./bert"), is_hub_id("a/b/c")
    (True, False, False)
    """
    return _HUB_ID.fullmatch(text) is not None


def download(hub_id: str, *, allow_pickle: bool = False, trust_remote_code: bool = False) -> Path:
    """Fetch a repository's files into the hub's cache and return their directory.

    Args:
        hub_id: "owner/name".
        allow_pickle: fetch `pytorch_model*.bin` as well.
        trust_remote_code: fetch `*.py` as well.

    Raises:
        CheckpointError: no such repository, no access to it, or no network and no cached copy.
    """
    patterns = [*_FILES, *(["*.bin"] if allow_pickle else [])]
    patterns += ["*.py"] if trust_remote_code else []
    # folders such as 1_Pooling belong to a model of sentence-transformers; onnx/ does not
    return _fetch(hub_id, allow_patterns=patterns, ignore_patterns=["[!0-9]*/*"])


def download_onnx(hub_id: str) -> Path:
    """Fetch a repository's model.onnx, beside config.json or in its folder `onnx`.

    Returns:
        The directory of the repository, with what `download` fetches.

    Raises:
        CheckpointError: see `download`.
    """
    graphs = [f"{folder}{name}" for folder in ("", "onnx/") for name in _GRAPHS]
    return _fetch(hub_id, allow_patterns=graphs)


def _fetch(
    hub_id: str, *, allow_patterns: list[str], ignore_patterns: list[str] | None = None
) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    silent = are_progress_bars_disabled()
    disable_progress_bars()
    try:
        return Path(
            snapshot_download(
                hub_id, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
            )
        )
    except Exception as error:  # the client raises many kinds; each means: no files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".: ")
        raise CheckpointError(
            f"'{hub_id}' could not be fetched from the Hugging Face hub: {reason}. Check the id "
            "and the network (`hf auth login` for a private one), or download the repository "
            "elsewhere and pass its directory."
        ) from error
    finally:
        if not silent:
            enable_progress_bars()
