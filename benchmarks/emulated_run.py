"""Logits of ONNX files on this processor, real or emulated, with NumPy and ONNX Runtime alone.

    python benchmarks/emulated_run.py FEEDS.npz OUT.npz MODEL.onnx [MODEL.onnx ...]

FEEDS.npz has an array "ROW/INPUT" for each row and input, [1, tokens]. OUT.npz has the logits of
each file, "0", "1", ... in the order given, [rows, classes], and "operators": of each file, the
names of the integer kernels that ran in its first row.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort

INTEGER = ("MatMulInteger", "DynamicQuantizeMatMul", "QLinear", "QGemm", "QAttention")


def logits(path: str, rows: list[dict[str, np.ndarray]]) -> tuple[np.ndarray, str]:
    """Logits [rows, classes] of a file, and which integer kernels it ran."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "run")
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        taken = {one.name for one in session.get_inputs()}
        fed = [{name: x for name, x in row.items() if name in taken} for row in rows]
        found = [session.run(None, fed[0])[0]]
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    found += [session.run(None, row)[0] for row in fed[1:]]
    ran = [event.get("args", {}).get("op_name", "") for event in events]
    whole = [name for name in ran if name.startswith(INTEGER)]
    counted = ", ".join(f"{whole.count(name)} {name}" for name in sorted(set(whole)))
    return np.concatenate(found), counted


def main() -> None:
    feeds, out, *files = sys.argv[1:]
    rows: dict[int, dict[str, np.ndarray]] = {}
    with np.load(feeds) as stored:
        for key in stored.files:
            row, _, name = key.partition("/")
            rows.setdefault(int(row), {})[name] = stored[key]
    found = [logits(path, [rows[row] for row in sorted(rows)]) for path in files]
    kept = {str(index): values for index, (values, _) in enumerate(found)}
    np.savez(out, operators=np.array([names for _, names in found]), **kept)


if __name__ == "__main__":
    main()
