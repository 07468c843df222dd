"""One name for a source from every directory, and what tells a file from another of its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdeploy.data import sources
from qdeploy.data.sources import canonical, fingerprint, is_hub_name, open_source, spelled_here
from qdeploy.errors import DataError


@pytest.mark.parametrize("name", ["hub:acme/reviews", "hub:glue/qnli", "qnli-mini"])
def test_names_that_are_no_paths_stay(name: str) -> None:
    assert canonical(name) == spelled_here(name) == name and fingerprint(name) is None


def test_a_path_is_absolute_and_typed_as_it_would_be_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    for typed in ("rows.csv", "./rows.csv", "sub/../rows.csv", str(tmp_path / "rows.csv")):
        assert canonical(typed) == str(tmp_path / "rows.csv")
        assert spelled_here(canonical(typed)) == "rows.csv"
    monkeypatch.chdir(tmp_path / "sub")
    assert spelled_here(str(tmp_path / "rows.csv")) == str(tmp_path / "rows.csv")
    monkeypatch.chdir("/")  # in which everything lies
    assert spelled_here(str(tmp_path / "rows.csv")) == str(tmp_path / "rows.csv")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert canonical("~/rows.csv") == str(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("name", "hub"),
    [
        ("glue/qnli", True),
        ("acme/reviews/en", True),
        ("here/rows", False),
        ("gone/rows.csv", False),
        ("gone/rows.PARQUET", False),
        ("/gone/rows", False),
        ("rows", False),
    ],
)
def test_what_may_be_a_name_of_the_hub(
    name: str, hub: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert is_hub_name(name) is hub
    assert canonical(name).startswith("hub:") is hub
    with pytest.raises(DataError, match="^hub:" if hub else rf"^{name} does not exist"):
        open_source(name, "evaluation")


@given(content=st.binary(max_size=64), at=st.integers(0, 63), more=st.binary(min_size=1))
def test_every_change_is_seen(
    content: bytes, at: int, more: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "printed.csv"
    path.write_bytes(content)
    before = fingerprint(str(path))
    assert before is not None and before == fingerprint(str(path))
    path.write_bytes(content + more)
    assert fingerprint(str(path)) != before
    if at < len(content):
        changed = bytearray(content)
        changed[at] ^= 1
        path.write_bytes(changed)
        assert fingerprint(str(path)) != before


def test_of_a_large_file_size_start_and_end_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_PRINTED", 10)
    path = tmp_path / "rows.csv"

    def of(content: bytes) -> str | None:
        path.write_bytes(content)
        return fingerprint(str(path))

    seen = [of(c) for c in (b"a" * 50, b"a" * 51, b"b" + b"a" * 49, b"a" * 49 + b"b")]
    assert len(set(seen)) == 4


def test_of_a_directory_the_files_of_glue_count(tmp_path: Path) -> None:
    assert fingerprint(str(tmp_path)) is None
    (tmp_path / "dev.tsv").write_text("text\tlabel\n")
    before = fingerprint(str(tmp_path))
    (tmp_path / "notes").touch()
    assert fingerprint(str(tmp_path)) == before is not None
    (tmp_path / "train.tsv").write_text("text\tlabel\n")
    assert fingerprint(str(tmp_path)) != before
