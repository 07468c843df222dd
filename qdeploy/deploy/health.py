"""What is found out about a target."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Health:
    """What was found out about one target.

    Attributes:
        works: an engine of this target runs here, in INT8.
        detail: the versions that work, or the reason that it does not.
        remedy: what to type; empty when it works.
    """

    works: bool
    detail: str
    remedy: str = ""
