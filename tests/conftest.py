"""Settings of hypothesis for every folder, and a check that no test leaves a module behind."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from qdeploy.errors import QDeployWarning
from tests.exports import Exports
from tests.modules import left_behind
from tests.once import Once

# A busy machine is no failure, and the same examples each time keep a failure reproducible.
settings.register_profile("qdeploy", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("qdeploy")

# Two processes share the machine, and the models are tiny: a thread for each core would only wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A trace makes millions of objects that live on: the collector would go through all of them again
# and again. And torch writes a record of each step where somebody listens, as pytest does to every
# logger. Together they are a third of an export.
gc.set_threshold(50_000, 20, 100)
logging.getLogger("torch.__trace").addHandler = lambda hdlr: None  # type: ignore[method-assign]

# A background job of a shell may start with SIGINT ignored, one of nohup with SIGHUP, and so would
# every process that the tests start to interrupt: with handlers here they begin with the default.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, so that no process is left with it at the end."""
    items.sort(key=lambda item: "torture" not in item.path.parts)


def pytest_collection_finish() -> None:
    """Modules stay loaded: the collector need not look at them."""
    gc.collect()
    gc.freeze()


def _watched(folders: list[Path]) -> Iterator[None]:
    before = set(sys.modules)
    yield
    left = left_behind(before, folders)
    for name in left:  # so that it fails here alone
        del sys.modules[name]
    assert not left, (
        f"left in sys.modules: {', '.join(left)}. Load them within `tests.modules.importing`."
    )


@pytest.fixture(autouse=True, scope="session")
def _no_module_is_left_by_the_session(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """What fixtures of a wider scope loaded."""
    yield from _watched([tmp_path_factory.getbasetemp()])


@pytest.fixture(autouse=True)
def _no_module_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test loaded; set up first, and so looked at when all else is undone."""
    yield from _watched([tmp_path_factory.getbasetemp()])


@pytest.fixture(autouse=True, scope="session")
def _short_searches() -> Iterator[None]:
    """Random weights are noisy, and most tests do not ask which sites the noise comes from.

    `tests/deploy/test_noise_report.py` gives the search its runs back.
    """
    from qdeploy.deploy import noise_sources

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise_sources, "_RUNS", 6)  # of 40
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """What all processes of a run share; not to be changed."""
    return Once(tmp_path_factory)


@pytest.fixture(scope="session")
def exported(once: Once) -> Exports:
    """Exports of tiny checkpoints, each made once per run; not to be changed."""
    return Exports(once)


@pytest.fixture(scope="session")
def home(once: Once, exported: Exports) -> Path:
    """See `tests.sealed.make`; not to be changed."""
    from tests import sealed

    def make(home: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", QDeployWarning)
            sealed.make(home, exported)

    return once("sealed", "", make)[0]


@pytest.fixture
def copy(home: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the directories in `home`, for the test to damage."""
    return lambda name: Path(shutil.copytree(home / name, tmp_path / name))
