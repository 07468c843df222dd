"""A new target is a folder beside the others and a line in the registry, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import qdeploy
from tests.exports import Exports

TARGET = """
from qdeploy.deploy.targets.ort_cpu.target import OrtCpu


class Annex(OrtCpu):
    \"\"\"ONNX Runtime once more, under another name.\"\"\"

    name = "annex"
    description = "ONNX Runtime, in an annex"
"""
USE = """
import sys
import qdeploy

model, engine = sys.argv[1:]
assert "annex" in qdeploy.doctor()["targets"]
built = qdeploy.build(model, engine, target="annex", data="qnli-mini", calibration_rows=8)
assert built["target"] == "annex" and built["int8"]["executed"] == built["int8"]["planned"] > 0
assert qdeploy.inspect(engine)["target"] == "annex"
report = qdeploy.evaluate(engine, data="qnli-mini", limit=8, latency=False)
assert report["target"] == "annex"
assert qdeploy.load(engine).predict([("Who?", "She.")])
chosen = qdeploy.build(model, engine + "-auto", target="auto", data="qnli-mini", calibration_rows=8)
assert "annex" in {*chosen["auto"]["p50_ms"], *chosen["auto"]["skipped"]}
print(qdeploy.__file__)
"""


@pytest.mark.integration
def test_a_folder_and_a_line_are_a_target(exported: Exports, tmp_path: Path) -> None:
    """A copy of the package with one more target: every command knows it."""
    home = Path(qdeploy.__file__).parent
    shutil.copytree(home, tmp_path / "qdeploy", ignore=shutil.ignore_patterns("__pycache__"))
    targets = tmp_path / "qdeploy" / "deploy" / "targets"
    (targets / "annex").mkdir()
    (targets / "annex" / "__init__.py").write_text('"""An annex."""\n')
    (targets / "annex" / "target.py").write_text(TARGET)
    registry = targets / "registry.py"
    text = registry.read_text("utf-8")
    line = "OrtCpu(), __import__('qdeploy.deploy.targets.annex.target', fromlist=['']).Annex(),"
    assert text.count("OrtCpu(),") == 1
    registry.write_text(text.replace("OrtCpu(),", line))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", USE, exported().model_dir, tmp_path / "engine"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "qdeploy" / "__init__.py")
