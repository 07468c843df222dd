"""Fresh environments of the packages that are named, and nothing else: slow, and needs an index."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import qdeploy
from tests.deploy.head_engines import TARGETS, TEXTS, Engines, needs

ROOT = Path(qdeploy.__file__).parents[1]
INSTALL_SECONDS = 900  # 0.2 GB of wheels on a busy machine
_LOADED = (
    "import sys, json, dataclasses, qdeploy; "
    "found = qdeploy.load(sys.argv[1], threads=2).predict(json.loads(sys.argv[2])); "
    "print(json.dumps([dataclasses.asdict(row) for row in found]))"
)
pytestmark = [pytest.mark.slow, pytest.mark.integration]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A command that sees the environment's own packages alone."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def environment(folder: Path, *packages: str) -> str:
    """Python of a fresh environment; skips where no index gives the packages."""
    python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    install = [python, "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    try:
        for command in ([sys.executable, "-m", "venv", str(folder)], [*install, *packages]):
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS
            )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = str(error.stderr or error).strip().splitlines()
        pytest.skip(f"Packages cannot be had here: {said[-1] if said else error}")
    for absent in ("torch", "transformers", "onnx_ir"):
        assert run([python, "-c", f"import {absent}"], folder).returncode != 0
    return python


@pytest.mark.parametrize("target", TARGETS)
def test_predict_py_needs_the_packages_that_it_names(
    target: str, engines: Engines, tmp_path: Path
) -> None:
    needs(target)
    directory = engines("classes", target)
    line = re.search(r"pip install (.*)", (directory / "predict.py").read_text("utf-8"))
    assert line is not None
    python = environment(tmp_path / "venv", *line[1].split())
    assert run([python, "-c", "import qdeploy"], tmp_path).returncode != 0
    command = [python, str(directory / "predict.py"), "--threads", "2", *TEXTS]
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    wanted = qdeploy.load(directory, threads=2).predict(TEXTS)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["scores"] for row in found] == [row.scores for row in wanted]


def test_the_extra_runtime_is_enough_to_load(engines: Engines, tmp_path: Path) -> None:
    directory = engines("classes", "ort-cpu")
    python = environment(tmp_path / "venv", f"{ROOT}[runtime]")
    command = [python, "-c", _LOADED, str(directory), json.dumps(TEXTS)]
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    wanted = [asdict(row) for row in qdeploy.load(directory, threads=2).predict(TEXTS)]
    assert json.loads(done.stdout) == json.loads(json.dumps(wanted))
    command = [python, "-m", "qdeploy", "export", "embedded", "model"]
    done = run(command, tmp_path)
    assert done.returncode == 2 and "torch" in done.stderr.partition("Type: ")[2]
