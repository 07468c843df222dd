"""How many threads an engine gets where nobody says: affinity and quota of the process."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qdeploy import api
from qdeploy.errors import PlanError
from qdeploy.evaluate.predictor import Predictor
from qdeploy.machine import threads
from qdeploy.machine.threads import check_threads, usable_cores


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of control groups of our own; 16 processors are allowed."""
    monkeypatch.setattr(threads, "_CGROUPS", tmp_path)
    monkeypatch.setattr(threads, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    return tmp_path


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_without_a_quota_it_is_the_affinity(groups: Path) -> None:
    assert usable_cores() == 16
    write(groups, own="0::/a/b", cpu__max="max 100000")
    assert usable_cores() == 16


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("400000 100000", 4), ("150000 100000", 1), ("20000 100000", 1), ("9900000 100000", 16)],
)
def test_quota_of_version_2(groups: Path, quota: str, cores: int) -> None:
    write(groups, own="0::/")
    write(groups, cpu__max=quota)
    assert usable_cores() == cores


def test_a_group_above_may_allow_less(groups: Path) -> None:
    write(groups, own="0::/outer/inner")
    write(groups / "outer" / "inner", cpu__max="800000 100000")
    write(groups / "outer", cpu__max="300000 100000")
    assert usable_cores() == 3


def test_a_container_that_sees_the_names_of_the_host(groups: Path) -> None:
    write(groups, own="0::/docker/0123abcd", cpu__max="200000 100000")
    assert usable_cores() == 2


def test_quota_of_version_1(groups: Path) -> None:
    write(groups, own="12:memory:/m\n4:cpu,cpuacct:/job")
    write(groups / "cpu,cpuacct" / "job", cpu__cfs_quota_us="500000", cpu__cfs_period_us="100000")
    assert usable_cores() == 5
    write(groups / "cpu,cpuacct" / "job", cpu__cfs_quota_us="-1")
    assert usable_cores() == 16


@pytest.mark.parametrize("text", ["", "nonsense", "1 2 3", "100000 0"])
def test_what_cannot_be_read_limits_nothing(groups: Path, text: str) -> None:
    write(groups, own="0::/", cpu__max=text)
    assert usable_cores() == 16


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_process_on_one_processor_gets_one_thread() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        "from qdeploy.machine.threads import check_threads; print(check_threads(None))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


def test_a_number_that_was_given_stays() -> None:
    assert check_threads(3) == 3 and check_threads(None) == usable_cores() >= 1
    with pytest.raises(PlanError, match="threads is 0"):
        check_threads(0)


@pytest.mark.parametrize("function", [api.evaluate, api.analyze, api.load, api.demo, Predictor])
def test_the_default_is_left_to_the_process(function: object) -> None:
    assert inspect.signature(function).parameters["threads"].default is None  # type: ignore[arg-type]
