"""Pairs of a family and a form, of which a run without the slow tests takes a part."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.tiny import FAMILIES

# A plain encoder, relative positions of two kinds, fused projections with gated feed-forwards.
UNLIKE = ("bert", "deberta-v2", "modernbert")


def family_cases(forms: Iterable[str], *, first: str) -> list[Any]:
    """Every family in the form `first`, and unlike families in all; the rest are slow."""
    return [
        pytest.param(family, form, marks=() if quick else pytest.mark.slow)
        for family in FAMILIES
        for form in forms
        for quick in [form == first or family in UNLIKE]
    ]
