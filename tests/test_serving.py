"""docs/serving.md, each block as it is written there."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.deploy.build import build_engine
from tests.evaluate.heads import PAIRS
from tests.exports import Exports

PAGE = Path(qdeploy.__file__).parents[1] / "docs" / "serving.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.S)
SERVER = next(block for block in BLOCKS if "FastAPI" in block)


@pytest.fixture(scope="module")
def home(exported: Exports, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an engine, called as the page calls it."""
    folder = tmp_path_factory.mktemp("serving")
    build_engine(exported().model_dir, folder / "ENGINE_DIR", strategy="dynamic", measure=False)
    return folder


@pytest.mark.parametrize("block", [block for block in BLOCKS if block != SERVER])
def test_each_block_runs(block: str, home: Path) -> None:
    done = subprocess.run([sys.executable, "-c", block], cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "entailment" in done.stdout


def client(home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The server's application behind a client, with its engine not yet loaded."""
    testing = pytest.importorskip("fastapi.testclient")
    monkeypatch.chdir(home)
    names: dict[str, Any] = {"__name__": "server"}
    exec(compile(SERVER, "server.py", "exec"), names)
    return testing.TestClient(names["app"]), names


def test_the_server_answers_as_the_engine_does(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, _ = client(home, monkeypatch)
    (wanted,) = qdeploy.load("ENGINE_DIR", threads=2).predict(PAIRS[:1])
    first, second = PAIRS[0]
    with here:
        found = here.post("/predict", json={"text": first, "text_pair": second})
        assert found.status_code == 200
        assert found.json() == {
            "label": wanted.label, "score": wanted.score, "scores": wanted.scores
        }  # fmt: skip
        assert here.post("/predict", json={"text": 1}).status_code == 422
        body = '{"text": "\\ud800", "text_pair": "half of a character"}'
        said = here.post("/predict", content=body, headers={"content-type": "application/json"})
        assert said.status_code in (422, 400)


def test_requests_that_wait_run_as_one_batch(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, names = client(home, monkeypatch)
    sizes: list[int] = []
    load = qdeploy.load

    def slow(*args: Any, **kwargs: Any) -> Any:
        engine = load(*args, **kwargs)
        predict = engine.predict

        def counted(rows: Any, **options: Any) -> Any:
            sizes.append(len(rows))
            time.sleep(0.05)  # while others come
            return predict(rows, **options)

        monkeypatch.setattr(engine, "predict", counted)
        return engine

    monkeypatch.setattr(qdeploy, "load", slow)
    row = {"text": PAIRS[0][0], "text_pair": PAIRS[0][1]}
    with here, ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: here.post("/predict", json=row).json(), range(32)))
    assert len({str(answer) for answer in found}) == 1 and sum(sizes) == 32
    assert max(sizes) > 1 and max(sizes) <= names["MOST"]
