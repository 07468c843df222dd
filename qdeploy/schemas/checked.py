"""JSON from disk as a value of a schema; a fault is an error that names the field."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from qdeploy.errors import ModelError, QDeployError

T = TypeVar("T")


def decode(raw: bytes, path: Path, remedy: str, error: type[QDeployError] = ModelError) -> Any:
    """JSON as plain values.

    Args:
        raw: bytes of the file.
        path: of it, for the text.
        remedy: what to do next, for the text.
        error: to raise.

    Raises:
        QDeployError: of the class asked for: no JSON, NaN or infinity, or nested too deeply.
    """
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as reason:
        raise error(f"{path} cannot be read as JSON: {reason}. {remedy}") from reason


def check(
    value: object, form: type[T], path: Path, remedy: str, error: type[QDeployError] = ModelError
) -> T:
    """The value as a form: a new one, without fields that the form does not know.

    Args:
        value: of `decode`.
        form: of this folder.
        path, remedy, error: of `decode`.

    Raises:
        QDeployError: of the class asked for, with the field at fault.
    """
    try:
        return msgspec.convert(value, form)
    except (msgspec.ValidationError, RecursionError) as reason:
        raise error(f"{path} is damaged: {_plain(str(reason))}. {remedy}") from reason


def checked(
    value: object,
    form: type[T],
    path: Path,
    remedy: str,
    require_possible: Callable[[T], None] | None = None,
) -> T:
    """The value itself, of a form that is a typed dictionary: unknown fields stay in it.

    Args:
        value, form, path, remedy: of `check`.
        require_possible: raises ValueError for what no field alone shows.

    Raises:
        ModelError: with the field at fault.
    """
    check(value, form, path, remedy)
    typed: T = value  # type: ignore[assignment]  # which `check` has just shown
    if require_possible is not None:
        try:
            require_possible(typed)
        except ValueError as reason:
            raise ModelError(f"{path} is damaged: {_plain(str(reason))}. {remedy}") from reason
    return typed


def _plain(text: str) -> str:
    """msgspec's text with the field's name as one writes it: `$.sites[3].name` is sites[3].name."""
    return text.replace(" - at `$.", " - at `").replace(" - at `$`", " at its top level")
