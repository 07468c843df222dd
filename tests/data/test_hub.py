"""Rows of the hub, with a stand-in for `datasets`: nothing is loaded."""

from __future__ import annotations

import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from qdeploy.data import (
    read_rows,
)
from qdeploy.data.hub import candidates
from qdeploy.errors import DataError
from qdeploy.machine.remedies import install_command


def fake_datasets(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    module = ModuleType("datasets")
    module.load_dataset = load  # type: ignore[attr-defined]  # a stand-in module
    monkeypatch.setitem(sys.modules, "datasets", module)


class Loaded(list[dict[str, Any]]):
    """What `datasets.load_dataset` gives, as far as it is used."""

    def select_columns(self, names: list[str]) -> list[dict[str, Any]]:
        return [{name: row[name] for name in names} for row in self]

    column_names = ("question", "sentence", "label")
    features = {  # noqa: RUF012  # as in datasets
        "question": SimpleNamespace(),
        "label": SimpleNamespace(names=["entailment", "not_entailment"]),
    }


@pytest.mark.parametrize("source", ["hub:glue/qnli", "glue/qnli"])
def test_hub_rows_come_with_class_names(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    asked = []

    def load(repository: str, configuration: str | None, split: str) -> Loaded:
        asked.append((repository, configuration, split))
        return Loaded([{"question": "a", "sentence": "b", "label": 1}])

    fake_datasets(monkeypatch, load)
    assert read_rows(source).labels == ("not_entailment",)
    assert read_rows(source, split="calibration").source == "hub:glue/qnli [train]"
    assert asked == [("nyu-mll/glue", "qnli", split) for split in ("validation", "train")]


def test_mnli_has_two_validation_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(repository: str, configuration: str | None, split: str) -> Loaded:
        asked.append(split)
        return Loaded([{"question": "a", "sentence": "b", "label": 1}])

    fake_datasets(monkeypatch, load)
    for split in ("evaluation", "calibration"):
        read_rows("glue/mnli", split=split)
    assert asked == ["validation_matched", "train"]


def test_hub_names_are_tried_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(repository: str, configuration: str | None, split: str) -> Loaded:
        if configuration is None:
            raise FileNotFoundError("no such data set")
        return Loaded([{"question": "a", "sentence": "b", "label": 0}])

    fake_datasets(monkeypatch, load)
    assert len(read_rows("hub:super/set")) == 1
    assert candidates("a/b/c") == [("a/b", "c")]
    assert candidates("imdb") == [("imdb", None)]


def test_hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> Loaded:
        raise ConnectionError("cannot reach the hub\nlong trace")

    fake_datasets(monkeypatch, load)
    with pytest.raises(DataError, match=r"'validation' could not be loaded \(ConnectionError: ca"):
        read_rows("hub:imdb")


def test_hub_without_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=re.escape(install_command("hub"))):
        read_rows("hub:imdb")
