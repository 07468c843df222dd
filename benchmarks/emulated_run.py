"""Logits of ONNX files on this processor, real or emulated, with NumPy and the runtimes alone.

    python benchmarks/emulated_run.py FEEDS.npz OUT.npz [openvino:]MODEL.onnx ...

A file with openvino: in front runs in OpenVINO, any other in ONNX Runtime. FEEDS.npz has an array
"ROW/INPUT" for each row and input, [1, tokens]. OUT.npz has the logits of each file, "0", "1", ...
in the order given, [rows, classes], and "operators": of each file, the names of the integer kernels
that ran in its first row, or that OpenVINO compiled.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

OPENVINO = "openvino:"
INTEGER = ("MatMulInteger", "DynamicQuantizeMatMul", "QLinear", "QGemm", "QAttention")


Rows = list[dict[str, np.ndarray]]


def logits(path: str, rows: Rows) -> tuple[np.ndarray, str]:
    """Logits [rows, classes] of a file, and which integer kernels it ran."""
    if path.startswith(OPENVINO):
        return openvino_logits(path.removeprefix(OPENVINO), rows)
    import onnxruntime as ort

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
    return np.concatenate(found), counted([name for name in ran if name.startswith(INTEGER)])


def openvino_logits(path: str, rows: Rows) -> tuple[np.ndarray, str]:
    """The same of OpenVINO, with what `qdeploy` sets."""
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(path, "CPU", settings)
    taken = {name for port in compiled.inputs for name in port.names}
    request = compiled.create_infer_request()
    fed = [{name: x for name, x in row.items() if name in taken} for row in rows]
    found = [next(iter(request.infer(row).values())).copy() for row in fed]
    told = [op.get_rt_info() for op in compiled.get_runtime_model().get_ops()]
    products = [info for info in told if info["layerType"].value == "FullyConnected"]
    kernels = [str(info["primitiveType"].value) for info in products]
    return np.concatenate(found), counted([name for name in kernels if name.endswith("I8")])


def counted(names: list[str]) -> str:
    """How often each is there."""
    return ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names)))


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
