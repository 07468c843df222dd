"""Licences that a checkpoint names: in the front matter of its README, as the hub reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from qdeploy.exporter.checkpoint import Checkpoint
from qdeploy.models import embedded

_FRONT_MATTER = re.compile(r"\A\s*---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)
_MOST_BYTES = 1 << 20
_OTHER = ("other", "unknown")  # `license_name` then says which


def licences_of(checkpoint: Checkpoint) -> list[str]:
    """The names, each once: of the weights, and of an adapter over them. Empty where none says."""
    if checkpoint.name == embedded.NAME:
        return [embedded.LICENCE]
    found = [name for folder in checkpoint.directories for name in _named(folder / "README.md")]
    return list(dict.fromkeys(found))


def _named(readme: Path) -> Iterator[str]:
    """What a README names; nothing where it cannot be read, which stops no export."""
    try:
        text = readme.read_bytes()[:_MOST_BYTES].decode("utf-8", errors="replace")
        match = _FRONT_MATTER.match(text)
        fields = yaml.safe_load(match[1]) if match else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return
    if not isinstance(fields, dict):
        return
    given = fields.get("license")
    for name in given if isinstance(given, list) else [given]:
        if name in _OTHER and isinstance(fields.get("license_name"), str):
            yield fields["license_name"]
        elif isinstance(name, str) and name.strip():
            yield name.strip()
