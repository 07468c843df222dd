"""A loaded engine: runs, times its kernels, and says what it misses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qdeploy.deploy.open import device_memory_mb, open_engine
from qdeploy.deploy.ort.events import Event, kernel_times
from qdeploy.deploy.ort.session import open_session, session_options
from qdeploy.deploy.targets.ort_cpu.engine import OrtCpuEngine
from qdeploy.errors import DataError, ModelError, TargetError
from tests import manifests
from tests.deploy.conftest import Built, Source
from tests.deploy.tolerances import SAME_ENGINE


@pytest.fixture
def directory(engine: Callable[..., Built]) -> Path:
    """An INT8 engine, not to be changed."""
    return engine(strategy="w8a8").directory


@pytest.fixture
def copy(directory: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(directory, tmp_path / "copy"))


def test_inputs_and_outputs_by_name(directory: Path, bert: Source) -> None:
    running = open_engine(directory, threads=1)
    assert set(running.input_names) == {"input_ids", "attention_mask", "token_type_ids"}
    assert running.output_names == ("logits",)
    outputs = running.run(bert.feeds(3))
    assert outputs["logits"].shape == (3, 2)
    assert outputs["logits"].dtype == np.float32


def test_the_number_of_threads_is_the_stated_one(directory: Path, bert: Source) -> None:
    engines = [OrtCpuEngine(directory / "model.onnx", threads=n) for n in (1, 2)]
    for threads, running in enumerate(engines, 1):
        options = running._session.get_session_options()
        assert running.threads == options.intra_op_num_threads == threads
        assert options.inter_op_num_threads == 1
    one, two = (running.run(bert.feeds())["logits"] for running in engines)
    np.testing.assert_allclose(one, two, atol=SAME_ENGINE)


def test_batches_do_not_change_a_row(directory: Path, bert: Source) -> None:
    """Static scales: a row's logits do not depend on its neighbours."""
    running, feeds = open_engine(directory, threads=1), bert.feeds(4)
    together = running.run(feeds)["logits"]
    for row in range(4):
        alone = running.run({name: array[row : row + 1] for name, array in feeds.items()})
        np.testing.assert_allclose(alone["logits"][0], together[row], atol=SAME_ENGINE)


def test_a_missing_input_is_named(directory: Path, bert: Source) -> None:
    feeds = bert.feeds(1)
    del feeds["attention_mask"]
    with pytest.raises(DataError, match="The engine needs the inputs attention_mask"):
        open_engine(directory, threads=1).run(feeds)


def test_inputs_that_the_engine_does_not_take_are_left_out(
    engine: Callable[..., Built], source: Callable[[str], Source]
) -> None:
    """One tokenizer batch serves engines with and without token types."""
    running = open_engine(engine("distilbert", strategy="w8a8").directory, threads=1)
    feeds = source("distilbert").feeds(2)
    expected = running.run(feeds)["logits"]
    more = feeds | {"token_type_ids": np.zeros_like(feeds["input_ids"])}
    np.testing.assert_array_equal(running.run(more)["logits"], expected)


def test_kernel_times_of_a_run(directory: Path, bert: Source, engine: Callable[..., Built]) -> None:
    times = open_engine(directory, threads=1).profile(bert.feeds(2), iterations=3)
    kernels: dict[str, int] = {}
    for entry in times:
        assert entry.ms >= 0 and entry.calls >= 1
        kernels[entry.kernel] = kernels.get(entry.kernel, 0) + entry.calls
    planned = engine(strategy="w8a8").report["int8"]["planned"]
    assert kernels["MatMulIntegerToFloat"] == planned
    assert 0 < sum(entry.ms for entry in times) < 10_000
    names = {entry.name for entry in times}
    assert len(names) == len(times)


def test_profiling_leaves_no_file_behind(
    directory: Path, bert: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    open_engine(directory, threads=1).profile(bert.feeds(1), iterations=1)
    assert not list(tmp_path.iterdir())


def test_the_warm_up_run_is_not_counted() -> None:
    """Three runs of two kernels, the first of them slow; durations are in microseconds."""
    durations = {"gemm": (9000, 1000, 3000), "norm": (5000, 500, 500)}
    events: list[Event] = [
        {
            "cat": "Node",
            "name": f"{name}_kernel_time",
            "dur": duration,
            "args": {"op_name": name.title()},
        }
        for name, all_of_it in durations.items()
        for duration in all_of_it
    ]
    events.append({"cat": "Session", "name": "model_run", "dur": 99_000, "args": {}})
    times = {entry.name: entry for entry in kernel_times(events, runs=3)}
    assert set(times) == {"gemm", "norm"}
    assert times["gemm"].ms == pytest.approx(2.0)
    assert times["norm"].ms == pytest.approx(0.5)
    assert times["gemm"].calls == 1


def test_a_damaged_graph_says_to_build_again(copy: Path) -> None:
    graph = copy / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:500])
    with pytest.raises(ModelError, match=r"model\.onnx is not the file that build wrote\. Build"):
        open_engine(copy)
    with pytest.raises(ModelError, match=r"model\.onnx does not load in ONNX Runtime: .*again\.$"):
        open_session(graph, session_options(1))
    graph.unlink()
    with pytest.raises(ModelError, match=r"model\.onnx is missing\. Build"):
        open_engine(copy)


def test_directories_that_are_no_engine(bert: Source, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist. Make the engine directory with `qdeploy"):
        open_engine(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="is of kind 'model', and an? engine directory"):
        open_engine(bert.directory)


def test_an_engine_of_an_unknown_target(copy: Path) -> None:
    manifests.edit(copy, "engine", target="ort-gpu")
    with pytest.raises(TargetError, match=r"qdeploy\.json names the target 'ort-gpu'.*ort-cpu"):
        open_engine(copy)


def test_memory_on_a_device_is_of_gpu_targets(
    directory: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests.edit(copy, "engine", target="tensorrt")
    monkeypatch.setattr("qdeploy.deploy.cuda.used_memory_mb", lambda: 12.5)
    assert device_memory_mb(directory) is None
    assert device_memory_mb(copy) == 12.5

    def missing() -> float:
        raise TargetError("no cuda.bindings")

    monkeypatch.setattr("qdeploy.deploy.cuda.used_memory_mb", missing)
    assert device_memory_mb(copy) is None
