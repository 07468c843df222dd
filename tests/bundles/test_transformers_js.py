"""Bundles in transformers.js, under Node, from the npm registry."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdeploy
from tests.bundles.conftest import TEXTS
from tests.environments import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.integration]
PACKAGE = "@huggingface/transformers@4.3.2"
HOME = ROOT / ".venv-transformers-js"
CLOSE = 1e-4
SCRIPT = """
import { pipeline, env } from "@huggingface/transformers";
const [parent, name, task, texts] = process.argv.slice(2);
env.localModelPath = parent;
env.allowRemoteModels = false;
const run = await pipeline(task, name, { dtype: "q8" });
const options = task === "feature-extraction" ? { pooling: "mean", normalize: true } : {};
const found = await run(JSON.parse(texts), options);
console.log(JSON.stringify(found.tolist ? found.tolist() : found));
"""


@pytest.fixture(scope="module")
def script() -> Path:
    """A program beside the package; skips where there is no Node or no registry."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    if not (HOME / "installed").is_file():
        shutil.rmtree(HOME, ignore_errors=True)
        HOME.mkdir()
        command = [
            "npm",
            "install",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--silent",
            PACKAGE,
        ]
        done = subprocess.run(command, cwd=HOME, capture_output=True, text=True, timeout=900)
        if done.returncode:
            pytest.skip(f"{PACKAGE} cannot be had here: {done.stderr.strip()[-300:]}")
        (HOME / "installed").write_text(PACKAGE, "utf-8")
    path = HOME / "run.mjs"
    path.write_text(SCRIPT, "utf-8")
    return path


def said(script: Path, out: Path, task: str) -> Any:
    command = ["node", str(script), str(out.parent), out.name, task, json.dumps(TEXTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_it_embeds(script: Path, engines: Path, tmp_path: Path) -> None:
    engine = engines / "embeds-ort-cpu"
    qdeploy.bundle(engine, tmp_path / "out", format="transformers-js")
    found = np.array(said(script, tmp_path / "out", "feature-extraction"))
    assert np.abs(found - qdeploy.load(engine).encode(TEXTS)).max() < CLOSE


def test_it_classifies(script: Path, engines: Path, tmp_path: Path) -> None:
    engine = engines / "classes-ort-cpu"
    qdeploy.bundle(engine, tmp_path / "out", format="transformers-js")
    found = said(script, tmp_path / "out", "text-classification")
    for answer, wanted in zip(found, qdeploy.load(engine).predict(TEXTS), strict=True):
        assert answer["label"] == wanted.label
        assert answer["score"] == pytest.approx(wanted.score, abs=CLOSE)
