"""One engine used by many threads, an event loop, forks and pickles."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import multiprocessing
import os
import pickle
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdeploy
from qdeploy.errors import DataError, ModelError, PlanError, TargetError
from qdeploy.evaluate.predictor import Predictor
from tests.exports import Exports

pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")
TARGETS = ("ort-cpu", "openvino")
SIZES = (32, 64)


@pytest.fixture(scope="module")
def built(
    exported: Exports, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, int], Path]:
    home, made = tmp_path_factory.mktemp("threads"), dict[tuple[str, int], Path]()

    def build(target: str, hidden: int) -> Path:
        if target == "openvino":
            pytest.importorskip("openvino")
        if (target, hidden) not in made:
            model = home / f"model-{hidden}"
            if not model.exists():
                shutil.copytree(exported(hidden=hidden).model_dir, model)
            made[target, hidden] = home / f"{target}-{hidden}"
            options: dict[str, Any] = {"calibration_rows": 8, "measure": False}
            qdeploy.build(model, made[target, hidden], strategy="w8a8", target=target, **options)
        return made[target, hidden]

    return build


def _calls(seed: int, count: int) -> list[tuple[str, list[tuple[str, str]], int]]:
    """Method, pairs of different lengths, and batch size."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        rows = [
            (f"what is river {rng.randrange(50)}", "the king is long " * rng.randrange(1, 30))
            for _ in range(rng.randrange(1, 5))
        ]
        found.append((rng.choice(("predict", "logits")), rows, rng.choice((1, 2, 8))))
    return found


def _answer(engine: Predictor, call: tuple[str, list[tuple[str, str]], int]) -> Any:
    method, rows, size = call
    if method == "predict":
        return [row.scores for row in engine.predict(rows, batch_size=size)]
    return [row["logits"].tolist() for row in engine.logits(rows, batch_size=size)]


@pytest.mark.parametrize("hidden", SIZES)
@pytest.mark.parametrize("target", TARGETS)
def test_eight_threads_give_the_answers_of_one(
    built: Callable[[str, int], Path], target: str, hidden: int
) -> None:
    engine = qdeploy.load(built(target, hidden))
    calls = [_calls(thread, 15) for thread in range(8)]
    expected = [[_answer(engine, call) for call in mine] for mine in calls]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        running = [pool.submit(lambda m: [_answer(engine, c) for c in m], mine) for mine in calls]
        assert [one.result() for one in running] == expected


def test_threads_with_limits_of_their_own(built: Callable[[str, int], Path]) -> None:
    """The tokenizer of an engine cuts at a limit that is its state."""
    from qdeploy.data.texts import rows_from_texts
    from qdeploy.data.tokenize import TextEncoder

    encoder = TextEncoder.from_directory(built("ort-cpu", 32))
    rows = rows_from_texts(["the king is long " * 40] * 20)

    def encode(limit: int) -> set[int]:
        return {int(n) for _ in range(20) for n in encoder.encode(rows, limit).lengths}

    limits = [8, 16, 24, 32, 48, 64, 96, 128]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(encode, limits)) == [{limit} for limit in limits]


def _refused_in_a_fork(call: Callable[[], object]) -> str:
    """What a TargetError says in a child that was forked off; "ran" where there was none."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        try:
            call()
            os.write(write, b"ran")
        except TargetError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    deadline = time.monotonic() + 30
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        assert time.monotonic() < deadline, "the child hangs"
        time.sleep(0.01)
    with os.fdopen(read) as stream:
        return stream.read()


@pytest.mark.parametrize("target", TARGETS)
def test_a_fork_is_told(built: Callable[[str, int], Path], target: str) -> None:
    engine = qdeploy.load(built(target, 32))
    engine.predict(["a king"])
    text = _refused_in_a_fork(lambda: engine.predict(["a king"]))
    assert f"loaded in process {os.getpid()}" in text
    assert "Start workers with 'spawn'" in text
    assert engine.predict(["a king"])  # the parent goes on


def test_openvino_is_not_loaded_behind_a_fork(built: Callable[[str, int], Path]) -> None:
    """Where another thread was at work, its locks would stay taken for ever in the child."""
    directory = built("openvino", 32)
    assert qdeploy.load(directory).predict(["a king"])
    text = _refused_in_a_fork(lambda: qdeploy.load(directory))
    assert "OpenVINO was loaded before this process was forked off" in text


def _labels(engine: Predictor) -> list[str]:
    return [row.label for row in engine.predict(["a king", "the river is long"])]


def test_a_pickle_loads_the_directory_again(
    built: Callable[[str, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Path(shutil.copytree(built("ort-cpu", 32), tmp_path / "engine"))
    monkeypatch.chdir(tmp_path)
    engine = qdeploy.load("engine", threads=1)
    monkeypatch.chdir("/")
    for again in (pickle.loads(pickle.dumps(engine)), copy.copy(engine)):
        assert again._subject.engine.threads == 1
        assert _labels(again) == _labels(engine)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_labels, [engine]) == [_labels(engine)]
    content = pickle.dumps(engine)
    shutil.rmtree(directory)
    with pytest.raises(ModelError, match="engine does not exist"):
        pickle.loads(content)
    shutil.copytree(built("ort-cpu", 64), directory)
    with pytest.raises(ModelError, match="holds another build than when this was pickled"):
        pickle.loads(content)


def test_an_engine_itself_is_not_pickled(built: Callable[[str, int], Path]) -> None:
    engine = qdeploy.load(built("ort-cpu", 32))
    with pytest.raises(TypeError, match=r"Pickle what qdeploy\.load\(\) gives"):
        pickle.dumps(engine._subject.engine)


def test_an_event_loop_goes_on(built: Callable[[str, int], Path]) -> None:
    engine = qdeploy.load(built("ort-cpu", 64), threads=1)
    rows = [[(f"river {at}", "the king is long " * 30)] * 16 for at in range(50)]
    expected = [[row.scores for row in engine.predict(pairs)] for pairs in rows]

    async def main() -> tuple[list[Any], int]:
        beats, done = 0, asyncio.Event()

        async def heart() -> None:
            nonlocal beats
            while not done.is_set():
                beats += 1
                await asyncio.sleep(0)

        beating = asyncio.create_task(heart())
        found = await asyncio.gather(*(engine.apredict(pairs) for pairs in rows))
        done.set()
        await beating
        return found, beats

    found, beats = asyncio.run(main())
    assert [[row.scores for row in answer] for answer in found] == expected
    assert beats > 50  # a loop that is blocked by each call beats once between two of them


async def _wrong(engine: Predictor) -> None:
    await engine.apredict([])


def test_an_error_is_raised_where_it_is_awaited(built: Callable[[str, int], Path]) -> None:
    with pytest.raises(DataError, match="No rows were given"):
        asyncio.run(_wrong(qdeploy.load(built("ort-cpu", 32))))


@pytest.mark.parametrize("threads", [0, -1, 1_000_000, "2", 1.5, True])
def test_threads_that_are_no_number_that_helps(
    built: Callable[[str, int], Path], threads: Any
) -> None:
    with pytest.raises(PlanError, match=r"threads is .* whole number from 1 to \d+ was expected"):
        qdeploy.load(built("ort-cpu", 32), threads=threads)
    with pytest.raises(PlanError, match="threads is"):
        qdeploy.evaluate(built("ort-cpu", 32), threads=threads, limit=2)


def test_an_infer_request_whose_run_failed_is_not_used_again(
    built: Callable[[str, int], Path],
) -> None:
    engine = qdeploy.load(built("openvino", 32))._subject.engine
    good = {name: np.ones((1, 4), np.int64) for name in engine.input_names}
    expected = engine.run(good)["logits"]
    for _ in range(3):
        with pytest.raises(Exception):  # noqa: B017  OpenVINO's own RuntimeError
            engine.run({name: np.ones((1, 4), np.float64)[..., None] for name in good})
        np.testing.assert_array_equal(engine.run(good)["logits"], expected)
