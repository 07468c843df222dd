"""Peak memory of a process, and bytes on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qdeploy.errors import ModelError
from qdeploy.evaluate import memory
from qdeploy.evaluate.size import engine_size
from tests.evaluate.bag import engine_directory, table


def test_peak_of_this_process_grows_with_what_it_touches() -> None:
    before = memory.resident_peak()
    held = np.ones(before // 8 + 4_000_000)  # more than all that was ever resident
    after = memory.resident_peak()
    assert after - before > held.nbytes // 2


def test_fallback_agrees_with_proc() -> None:
    if not Path("/proc/self/status").is_file():
        pytest.skip("no /proc here")
    code = (
        "from qdeploy.evaluate import memory as m;"
        "print(m.resident_peak(), m._resident_peak_of_resource())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    proc, resource = map(int, done.stdout.split())
    assert resource >= 0.9 * proc  # it may hold the parent's peak as well


def test_a_process_that_fails_is_an_error_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"process of its own: .*does not exist"):
        memory.peak_memory(tmp_path / "none")


def test_peak_of_a_fresh_process(tmp_path: Path) -> None:
    small = engine_directory(tmp_path / "small")
    large = engine_directory(
        tmp_path / "large", np.vstack([table(), np.ones((4_000_000, 2))]).astype(np.float32)
    )
    first, second = (
        memory.peak_memory(d, threads=1, batch_size=2, seq_len=8) for d in (small, large)
    )
    assert 0 < first["interpreter"] < first["peak"]
    assert second["peak"] - first["peak"] > 25  # its table is 32 MB


def test_command_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    memory.main([str(engine_directory(tmp_path / "e")), "--threads", "1", "--seq-len", "8"])
    assert set(json.loads(capsys.readouterr().out)) == {"peak", "interpreter"}


def test_size_counts_every_file(tmp_path: Path) -> None:
    directory = engine_directory(tmp_path / "e")
    (directory / "plan.json").write_bytes(b" " * 1000)
    (directory / "model.onnx.data").write_bytes(b" " * 500)
    size = engine_size(directory)
    total = sum(path.stat().st_size for path in directory.iterdir())
    assert size["total"] == pytest.approx(total / 1e6)
    onnx = (directory / "model.onnx").stat().st_size
    assert size["model"] == pytest.approx((onnx + 500) / 1e6)
    assert size["weights"] == pytest.approx((table().nbytes + 16) / 1e6)  # and two axes


def test_size_of_an_engine_that_only_its_target_reads(tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(b" " * 2000)
    assert engine_size(tmp_path) == {"total": 0.002, "model": 0.002, "weights": 0.002}


def test_size_of_broken_directories(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no model\.onnx and no model\.plan"):
        engine_size(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match="cannot be read as ONNX"):
        engine_size(tmp_path)
