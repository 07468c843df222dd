"""JSON files of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qdeploy.errors import CheckpointError

_WORDS: dict[type, str] = {dict: "object", list: "list"}


def json_file(path: Path, kind: type) -> Any:
    """What a file holds: a dict or a list.

    Raises:
        CheckpointError: it cannot be read, is no JSON, or holds another kind.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(
            f"{path} cannot be read as JSON: {error}. Copy or download it again."
        ) from error
    if not isinstance(value, kind):
        raise CheckpointError(f"{path} holds no JSON {_WORDS[kind]}. Copy or download it again.")
    return value
