"""What this process has kept so far, so that whoever interrupts it is told the truth."""

from __future__ import annotations

_notes: dict[str, str] = {}


def note(subject: str, text: str) -> None:
    """Note that something stands on disk for good, in words that go on a sentence.

    Args:
        subject: what it is; a later note of the same replaces this one.
        text: "statistics were kept in model/statistics".
    """
    _notes[subject] = text


def notes() -> list[str]:
    """What was noted since `forget`, in order."""
    return list(_notes.values())


def forget() -> None:
    """Begin anew: a command is about to run."""
    _notes.clear()
