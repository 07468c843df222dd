"""The names of the classes, as a config.json that somebody else wrote has them: its `id2label`."""

from __future__ import annotations

from collections.abc import Mapping

from qdeploy.errors import QDeployError

_NAMED = 6


def class_names(
    config: Mapping[str, object], classes: int | None, origin: str, error: type[QDeployError]
) -> list[str]:
    """Class names by index, as they are written; none where config.json names none.

    Args:
        config: its content.
        classes: logits that the graph gives; None where it does not say.
        origin: what to call the config.json, for errors.
        error: class of the errors.

    Raises:
        QDeployError: of that class: names that are not counted from 0, or of another number.
    """
    found = config.get("id2label")
    if not isinstance(found, dict) or not found:
        return []
    named = {str(key): str(name) for key, name in found.items()}
    if set(named) != {str(at) for at in range(len(named))}:
        raise error(
            f"{origin} counts its classes as {_listed(list(named))}, and they are counted from 0. "
            "Correct id2label."
        )
    names = [named[str(at)] for at in range(len(named))]
    if classes is not None and classes != len(names):
        raise error(
            f"{origin} names {len(names)} classes ({_listed(names)}), and the graph gives "
            f"{classes} logits. It is of another model: name the right directory with "
            "--tokenizer, or correct id2label."
        )
    return names


def _listed(words: list[str]) -> str:
    return ", ".join(words[:_NAMED]) + (", …" if len(words) > _NAMED else "")
