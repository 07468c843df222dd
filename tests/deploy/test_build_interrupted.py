"""What an interruption or a disk leaves of a build: the older engine, or nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qdeploy.deploy import build as building
from qdeploy.deploy.build import build_engine
from qdeploy.errors import (
    OutputError,
)
from tests.deploy.conftest import Built, Source


def test_force_replaces_an_engine_and_a_failure_keeps_the_old_one(
    bert: Source, tmp_path: Path
) -> None:
    output = tmp_path / "engine"
    build_engine(bert.directory, output, strategy="fp32")
    old = (output / "model.onnx").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        build_engine(
            bert.directory, output, statistics=bert.statistics, force=True, progress=_interrupt
        )
    assert (output / "model.onnx").read_bytes() == old
    build_engine(bert.directory, output, statistics=bert.statistics, force=True)
    assert (output / "model.onnx").read_bytes() != old
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]


def _interrupt(stage: str, done: int, total: int) -> None:
    if stage == "certify":
        raise KeyboardInterrupt


# Places that are no place


def test_through_a_link_to_the_parent(bert: Source, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    build_engine(bert.directory, tmp_path / "link" / "engine", strategy="fp32")
    assert (tmp_path / "real" / "engine" / "model.onnx").is_file()


def test_a_parent_that_is_a_file(bert: Source, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="engine.*Name another output"):
        build_engine(bert.directory, tmp_path / "file" / "engine", strategy="fp32")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only directory")
def test_a_read_only_parent(bert: Source, tmp_path: Path) -> None:
    (tmp_path / "parent").mkdir(mode=0o555)
    with pytest.raises(OutputError, match="cannot be written: Permission denied"):
        build_engine(bert.directory, tmp_path / "parent" / "engine", strategy="fp32")


@pytest.mark.parametrize(
    ("code", "text"),
    [(errno.ENOSPC, "The disk is full"), (errno.EROFS, "cannot be written: Read-only file system")],
)
def test_a_disk_that_refuses(
    code: int, text: str, bert: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, _: Any) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(building, "write_json", refuse)
    with pytest.raises(OutputError, match=text):
        build_engine(bert.directory, tmp_path / "engine", strategy="fp32")
    assert not list(tmp_path.iterdir())


# Interruptions

SCRIPT = """
import os, signal, sys
from qdeploy.deploy.build import build_engine

model, engine, statistics, stage, name = sys.argv[1:]

def stop(reached, done, total):
    if reached == stage:
        os.kill(os.getpid(), getattr(signal, name))

build_engine(model, engine, statistics=statistics, progress=stop)
"""


def _in_a_process(bert: Source, engine: Path, stage: str, name: str) -> int:
    arguments = [str(bert.directory), str(engine), str(bert.statistics), stage, name]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env=os.environ | {"PYTHONHASHSEED": "7"},
        capture_output=True,
        check=False,
        timeout=120,
    )
    return done.returncode


def test_killed_while_writing_the_next_run_works(
    bert: Source, engine: Callable[..., Built], tmp_path: Path
) -> None:
    output = tmp_path / "engine"
    assert _in_a_process(bert, output, "certify", "SIGKILL") == -signal.SIGKILL
    assert not output.exists()
    # nobody can clean up after a kill but the next run
    lease, leftover = sorted(tmp_path.iterdir())
    assert (lease.suffix, leftover.suffix) == (".lease", ".partial")
    assert (leftover / "model.onnx").is_file()
    assert _in_a_process(bert, output, "never", "SIGKILL") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["engine"]
    for name in ("model.onnx", "plan.json"):  # another process, another order of hashes
        expected = (engine(padding="auto").directory / name).read_bytes()
        assert (output / name).read_bytes() == expected, name


@pytest.mark.parametrize("stage", ["plan", "certify"])
def test_ctrl_c_leaves_nothing(bert: Source, stage: str, tmp_path: Path) -> None:
    assert _in_a_process(bert, tmp_path / "engine", stage, "SIGINT") == -signal.SIGINT
    assert not list(tmp_path.iterdir())
