"""Progress of a log, and none with --quiet; that of a terminal is in test_screens.py."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from qdeploy import api
from qdeploy.cli import main, progress, streams


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
def test_elsewhere_a_step_is_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "c", "m", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch("verify\nverify: done in 0\\.\\d s\nwrite\nwrite: done in 0\\.\\d s\n", err)
    assert out == "{}\n"


@pytest.mark.usefixtures("working")
def test_quiet_draws_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "c", "m", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: found.now)
    return found


class Clock:
    """A time that a test sets."""

    now = 100.0


def test_a_log_gets_a_sign_of_life_every_ten_seconds(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    log = progress.LogProgress()
    for done in range(5):
        log.update("observe", done, 5)
        clock.now += 6
    log.update("observe", 5, 5)
    assert capsys.readouterr().err.splitlines() == [
        "observe",
        "observe: 2 of 5, 12 s so far, about 18 s left",
        "observe: 4 of 5, 24 s so far, about 6.0 s left",
        "observe: done in 30 s",
    ]


def test_a_silent_step_gives_a_sign_of_life(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    log = progress.LogProgress()
    log.update("compile", 0, 0)
    for _ in range(25):
        clock.now += 1
        log.tick()
    assert capsys.readouterr().err.splitlines() == [
        *("compile", "compile: 10 s so far", "compile: 20 s so far")
    ]


def test_a_log_by_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The thread behind it says something while the command does not."""
    monkeypatch.setattr(progress, "_LOG_S", 0.5)
    said, say = threading.Event(), streams.say

    def hear(text: str) -> None:
        say(text)
        if "so far" in text:
            said.set()

    monkeypatch.setattr(streams, "say", hear)
    with progress.LogProgress() as log:
        log.update("compile", 0, 0)
        assert said.wait(60)
    assert "compile: done in" in capsys.readouterr().err


def test_an_error_ends_a_log_with_the_step_that_it_met(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    log = progress.LogProgress()
    log.update("compile", 0, 0)
    clock.now += 3
    log.__exit__(ValueError, None, None)
    assert capsys.readouterr().err == "compile\ncompile: not finished after 3.0 s\n"


def test_names_are_text_alone(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress.LogProgress().update("build a\x1b[31mb\nc", 0, 0)
    assert capsys.readouterr().err == "build a\\x1b[31mb\\nc\n"
