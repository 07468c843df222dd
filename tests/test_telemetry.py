"""Nobody calls home: no connection is tried, and no file is written beside the outputs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qdeploy.machine import telemetry
from tests.tiny import tiny_checkpoint

ROOT = Path(__file__).parent.parent
# Long enough that a reporter's threads wake up: ONNX Runtime's first upload comes after a second.
SCRIPT = """
import sys, time, warnings
warnings.simplefilter("ignore")
import qdeploy
checkpoint, home = sys.argv[1:]
qdeploy.export(checkpoint, f"{home}/model")
for target in ("ort-cpu", "openvino"):
    try:
        qdeploy.build(f"{home}/model", f"{home}/{target}", strategy="w8a8", target=target,
                      calibration_rows=8)
    except qdeploy.errors.TargetError:
        continue
    qdeploy.evaluate(f"{home}/{target}", limit=8, seq_len=16, warmup=1, iterations=20)
time.sleep(3)
"""
REPORTS = """
import time
import onnxruntime
time.sleep(3)
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("telemetry") / "checkpoint")


def _alone(script: str, arguments: list[str], home: Path, **variables: str) -> list[str]:
    """Connections that a script tries in a network namespace without routes."""
    if not all(map(shutil.which, ("unshare", "strace"))):
        pytest.skip("unshare or strace is missing")
    if subprocess.run(["unshare", "-n", "strace", "true"], capture_output=True).returncode:
        pytest.skip("no network namespace, or no tracing, here")
    trace = home.parent / "trace"
    (home / "tmp").mkdir(parents=True)
    known = {k: v for k, v in os.environ.items() if k not in telemetry.VARIABLES}
    places = {"HOME": str(home), "TMPDIR": str(home / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [
            *("unshare", "-n", "strace", "-f", "-qq", "-e", "trace=connect,sendto"),
            *("-o", str(trace), sys.executable, "-c", script, *arguments),
        ],
        cwd=ROOT,
        env=known | places | {"HF_HUB_OFFLINE": "1"} | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [line for line in trace.read_text().splitlines() if re.search(r"AF_INET6?\b", line)]


def _files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


def test_export_build_and_eval_call_nobody(checkpoint: Path, tmp_path: Path) -> None:
    home, outputs = tmp_path / "home", tmp_path / "outputs"
    outputs.mkdir()
    assert _alone(SCRIPT, [str(checkpoint), str(outputs)], home) == []
    left = [name for name in _files(home) if "torchinductor" not in name]
    assert left == []


def test_without_the_variables_something_is_written(tmp_path: Path) -> None:
    """Else the test above could not fail: this onnxruntime does report where it is not asked."""
    home = tmp_path / "home"
    _alone(REPORTS, [], home)
    if not _files(home):
        pytest.skip("this onnxruntime reports nothing at import")
    shutil.rmtree(home)
    _alone(f"import qdeploy\n{REPORTS}", [], home)
    assert _files(home) == []


@pytest.mark.parametrize("name", telemetry.VARIABLES)
def test_who_decides_otherwise_is_heard(name: str) -> None:
    script = f"import os; import qdeploy; print(os.environ[{name!r}])"
    for value in (None, "mine"):
        known = {k: v for k, v in os.environ.items() if k != name}
        environment = known | ({} if value is None else {name: value})
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == (value or telemetry.VARIABLES[name])
