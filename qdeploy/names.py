"""Names of sites, GEMMs and nodes: the layer that they tell, and a short form for tables."""

from __future__ import annotations

import re

# `layer.3.`, `/layers.0/`, `h.2.`; else the first number between two separators
_LAYER = re.compile(r"(?:layers?|blocks?|h)[._/](\d+)[./]")
_NUMBER = re.compile(r"[./](\d+)[./]")


def place_of(name: str) -> tuple[int | None, str]:
    """The layer that a name tells, and the name within it.

    >>> place_of("bert.encoder.layer.3.output.dense.input")
    (3, 'output.dense.input')
    >>> place_of("/model/layers.0/attn/q/MatMul")
    (0, 'attn/q/MatMul')
    >>> place_of("classifier.input")
    (None, 'classifier.input')
    """
    found = _LAYER.search(name) or _NUMBER.search(name)
    if found is None:
        return None, name
    return int(found[1]), name[found.end() :]


def short_name(name: str) -> str:
    """A name as a table has it.

    >>> short_name("bert.encoder.layer.3.output.dense.input")
    'L3 output.dense.input'
    """
    layer, rest = place_of(name)
    return rest if layer is None else f"L{layer} {rest}"
