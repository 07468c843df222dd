"""Documents held against their types: strictly, and down to the last key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
from typing_extensions import get_type_hints, is_typeddict

from qdeploy.schemas.sweep import FinishedTrial, SweepFields, TrialAccuracy, TrialLatency


def assert_is(document: object, form: type) -> None:
    """A document is of a type, as it is and as JSON, and has no key that the type does not know."""
    msgspec.convert(document, form, strict=True)
    text = json.dumps(document, allow_nan=False)
    assert json.loads(text) == document
    assert list(unknown(document, form)) == []


def unknown(value: Any, form: Any, place: str = "$") -> Iterator[str]:
    """Places of keys that a type does not have."""
    if is_typeddict(form):
        fields = get_type_hints(form)
        for key, item in value.items():
            if key in fields:
                yield from unknown(item, fields[key], f"{place}.{key}")
            else:
                yield f"{place}.{key}"
        return
    parts = get_args(form)
    if isinstance(value, dict) and get_origin(form) is dict:
        for key, item in value.items():
            yield from unknown(item, parts[1], f"{place}.{key}")
    elif isinstance(value, list) and get_origin(form) is list:
        for at, item in enumerate(value):
            yield from unknown(item, parts[0], f"{place}[{at}]")
    elif value is not None and len(kinds := [p for p in parts if p is not type(None)]) == 1:
        yield from unknown(value, kinds[0], place)  # what may be None


def require_typed_sweep(folder: Path, result: Any) -> None:
    """The same of sweep.json, whose trials all ended with figures, and of their files.

    `msgspec` builds no union of typed dictionaries: trials are held one by one.
    """
    result = json.loads(json.dumps(result))  # sweep.json, which has no tuples
    assert_is({k: v for k, v in result.items() if k != "trials"}, SweepFields)
    for trial in result["trials"]:
        assert_is(trial, FinishedTrial)
        for name, form in (("accuracy", TrialAccuracy), ("latency", TrialLatency)):
            path = folder / "trials" / trial["key"] / f"{name}.json"
            assert_is(json.loads(path.read_text("utf-8")), form)
