"""Engines on other processors: their logits under qemu's emulation against those of this one.

qemu 7.2 emulates no AVX-512: all three processors run the kernels of AVX2, which add pairs of
products in 16 bits.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdeploy.data.rows import read_rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.certificate import read_certificate
from qdeploy.errors import QDeployWarning
from qdeploy.machine.processor import EXACT, instruction_set
from qdeploy.sqnr import logit_sqnr_db
from tests.deploy.conftest import DATA
from tests.deploy.tolerances import OTHER_PROCESSOR_DB
from tests.exports import Exports

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "emulated_run.py"
PROCESSORS = ("Haswell", "EPYC-Milan", "Skylake-Server")
SIZES = (32, 64)


def _logits(command: list[str], files: list[Path], feeds: Path) -> list[Any]:
    out = feeds.with_name("out.npz")
    done = subprocess.run(
        [*command, sys.executable, str(SCRIPT), str(feeds), str(out), *map(str, files)],
        capture_output=True,
        text=True,
        env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"},
    )
    assert done.returncode == 0, done.stderr
    with np.load(out) as stored:
        assert all("MatMulInteger" in str(names) for names in stored["operators"])
        return [stored[str(index)] for index in range(len(files))]


def _feeds(model: Path, path: Path) -> Path:
    encoder = TextEncoder.from_directory(model)
    rows = read_rows(DATA, task="qnli", split="evaluation").take(8)
    batches = encoder.batches(encoder.encode(rows, max_length=64), 1)
    feeds = {f"{i}/{name}": x for i, one in enumerate(batches) for name, x in one.feeds.items()}
    np.savez(path, **feeds)  # type: ignore[arg-type]  # names are no options
    return path


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="needs qemu-user")
def test_logits_are_the_same_on_other_processors_where_that_is_proved(
    exported: Exports, tmp_path: Path
) -> None:
    engines = {}
    for hidden in SIZES:
        model = shutil.copytree(exported(hidden=hidden).model_dir, tmp_path / f"model{hidden}")
        for cpu in ("any", "native"):
            engine = engines[hidden, cpu] = tmp_path / f"{cpu}{hidden}"
            with warnings.catch_warnings():  # random weights and planted outliers are noisy
                warnings.simplefilter("ignore", QDeployWarning)
                build_engine(model, engine, data=DATA, calibration_rows=8, cpu=cpu, measure=False)
    feeds = _feeds(tmp_path / f"model{SIZES[0]}", tmp_path / "feeds.npz")
    files = [engine / "model.onnx" for engine in engines.values()]
    here = _logits([], files, feeds)
    native = instruction_set() in EXACT  # elsewhere `--cpu native` fits 16 bits all the same
    for processor in PROCESSORS:
        there = _logits(["qemu-x86_64", "-cpu", processor], files, feeds)
        for key, exact, other in zip(engines, here, there, strict=True):
            proved = read_certificate(engines[key])["processors"]["proved"]
            assert proved == (key[1] == "any" or not native)
            found = logit_sqnr_db([(exact, other)], exclusive=True)
            assert (found >= OTHER_PROCESSOR_DB) == proved, (processor, key, found)
