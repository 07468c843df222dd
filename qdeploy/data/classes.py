"""Labels that are numbers, in the spellings that files have."""

from __future__ import annotations

import re
from collections.abc import Iterable

# No index has more digits, and Python reads 4300 at most.
_WHOLE = re.compile(r"[+-]?\d{1,18}(\.0*)?")
_GENERIC = re.compile(r"label_(\d{1,18})", re.IGNORECASE)


def whole_number(label: str) -> int | None:
    """The integer that a label spells, with or without a decimal point; None where it is no number
    or has more than 18 digits.

    >>> whole_number("2"), whole_number("2.0"), whole_number("2.5"), whole_number("two")
    (2, 2, None, None)
    """
    return int(label.split(".")[0]) if _WHOLE.fullmatch(label) else None


def all_generic(labels: Iterable[str]) -> bool:
    """Whether every name is one that says nothing, as transformers' own `LABEL_3`."""
    return all(generic_index(name) is not None for name in labels)


def plain_name(name: str) -> str:
    """`Not-Entailment`, `not entailment` and `not_entailment` are one class."""
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def generic_index(label: str) -> int | None:
    """The index in a name that says nothing else: 3 of `LABEL_3`; None for other names."""
    found = _GENERIC.fullmatch(label)
    return int(found[1]) if found else None
