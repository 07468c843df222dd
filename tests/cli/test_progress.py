"""Progress goes to standard error: bars on a terminal, lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from qdeploy import api
from qdeploy.cli import main, progress


@pytest.fixture
def working(monkeypatch: pytest.MonkeyPatch) -> None:
    """An `export` that reports two stages."""

    def export(*_: object, progress: Callable[[str, int, int], None] | None, **__: object) -> Any:
        if progress is not None:
            for done in range(1001):
                progress("verify", done, 1000)
            progress("write", 0, 0)
        return {}

    monkeypatch.setattr(api, "export", export)


@pytest.mark.usefixtures("working")
def test_elsewhere_a_stage_is_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "c", "m", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert err == "verify: 0/1000\nverify: 1000/1000\nwrite\n"
    assert out == "{}\n"


@pytest.mark.usefixtures("working")
def test_quiet_draws_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "c", "m", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_long_stage_gives_a_sign_of_life(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 100, 6))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with progress.PlainProgress() as plain:
        for done in range(5):
            plain.update("observe", done, 100)
    assert capsys.readouterr().err == "observe: 0/100\nobserve: 2/100\nobserve: 4/100\n"


def test_bars_take_stages_and_unknown_totals(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.RichProgress() as bars:
        bars.update("observe", 1, 10)
        bars.update("observe", 10, 10)
        bars.update("compile", 0, 0)
    assert capsys.readouterr().out == ""
