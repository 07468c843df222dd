"""A JSON file that holds its own digest."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.files.artifact import MANIFEST, add_to_manifest, read_json, write_manifest
from qdeploy.files.own_digest import BLANK, holds, stamped
from tests.manifests import fields

CONTENT = (
    b'{\n  "a": {\n    "digest": "' + b"0" * 64 + b'"\n  },\n  "digest": "' + b"0" * 64 + b'"\n}\n'
)


def test_a_nested_field_of_that_name_is_another() -> None:
    made = stamped(CONTENT)
    assert holds(made) and not holds(CONTENT)
    assert made.count(BLANK.encode()) == 1 and len(made) == len(CONTENT)


@given(at=st.integers(0, len(CONTENT) - 1), flip=st.integers(1, 255))
def test_every_byte_counts(at: int, flip: int) -> None:
    made = bytearray(stamped(CONTENT))
    made[at] ^= flip
    assert not holds(bytes(made))


def test_a_file_without_one() -> None:
    assert not holds(b"") and not holds(b"{}\n")
    with pytest.raises(ValueError, match="one field for the digest was expected"):
        stamped(b"{}\n")


def test_manifests_hold_it_however_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    write_manifest(tmp_path, "engine", fields("engine"))
    first = (tmp_path / MANIFEST).read_bytes()
    assert holds(first)
    add_to_manifest(tmp_path, "engine", {"noise": None})
    second = (tmp_path / MANIFEST).read_bytes()
    assert holds(second) and second != first
    write_manifest(tmp_path, "engine", read_json(tmp_path / MANIFEST))
    assert (tmp_path / MANIFEST).read_bytes() == second
