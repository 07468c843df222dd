"""Whole lowered graphs as text: what a change of a lowering does to them is read in a diff.

    python -m tests.golden.graphs      # writes every file anew

The encoder is written by code (`tests.calibrate.encoder`), so no version of torch changes a file.
"""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper, printer

from qdeploy.deploy.build import build_engine
from qdeploy.errors import QDeployWarning
from tests.calibrate.encoder import encoder, model_directory

HERE = Path(__file__).parent
TARGETS = ("ort-cpu", "openvino", "ort-cuda", "tensorrt")
# Options of each plan, by the name in the file's name.
PLANS: dict[str, dict[str, Any]] = {
    "fp32": {"strategy": "fp32"},
    "fp16": {"strategy": "fp16"},
    "dynamic": {"strategy": "dynamic"},
    "w8a8": {"strategy": "w8a8"},
    "w8a8-all": {"strategy": "w8a8", "scope": "all"},
    "fp8": {"strategy": "fp8"},
    "peg": {"strategy": "peg"},
    "peg-outliers": {"strategy": "peg", "outlier_channels": 2, "groups": 1},
    "peg-all-k3": {"strategy": "peg", "scope": "all", "groups": 3},
}
_ONLY = {"fp32": ("ort-cpu",), "fp16": ("tensorrt",), "fp8": ("tensorrt",), "dynamic": ("ort-cpu",)}
_FEW = 8  # values of a constant that are written one by one
_BETWEEN_TYPES = re.compile(r", (?=[a-z]+[0-9]*\[[^ ]*\] )")
_NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?|-?\d+e[+-]?\d+")


def cases() -> Iterator[tuple[str, str]]:
    """Target and plan of each file; ort-tensorrt has tensorrt's lowering (`test_golden`)."""
    for target in TARGETS:
        for plan in PLANS:
            if plan in _ONLY and target not in _ONLY[plan]:
                continue
            yield target, plan


def make_model(home: Path) -> tuple[Path, Path]:
    """A model directory of one layer, and rows to calibrate it on."""
    rows = home / "rows.tsv"
    lines = [f"which city {i}?\tthe city {'x ' * (i % 7)}\tentailment" for i in range(24)]
    rows.write_text("\n".join(["question\tsentence\tlabel", *lines]) + "\n")
    return model_directory(home / "model", encoder(layers=1)), rows


def lowered_text(model_dir: Path, rows: Path, home: Path, target: str, plan: str) -> str:
    """Build an engine without compiling it; the text of its graph."""
    options = dict(PLANS[plan])
    if options["strategy"] not in ("fp32", "fp16", "dynamic"):
        options |= {"data": str(rows), "calibration_rows": 16}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QDeployWarning)
        engine = home / f"{target}-{plan}"
        build_engine(model_dir, engine, target=target, dry_run=True, measure=False, **options)
    return text_of(onnx.load(engine / "model.onnx"))


def text_of(model: onnx.ModelProto) -> str:
    """Nodes in ONNX's text form; constants as `name: dtype[shape] = ` values, or a summary."""
    constants = [_constant(tensor) for tensor in model.graph.initializer]
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.initializer[:]
    for field in ("producer_name", "producer_version"):
        bare.ClearField(field)
    text = _BETWEEN_TYPES.sub(",\n    ", printer.to_text(bare))  # a line each
    return "\n".join([text, "", "# constants", *sorted(constants)]) + "\n"


def _constant(tensor: onnx.TensorProto) -> str:
    array = numpy_helper.to_array(tensor)
    head = f"{tensor.name}: {array.dtype}[{','.join(map(str, array.shape))}] = "
    if array.size <= _FEW:
        return head + ", ".join(_shown(value) for value in array.ravel())
    wide = array.astype(np.float64)
    return f"{head}{_shown(wide.min())} to {_shown(wide.max())}, mean {_shown(wide.mean())}"


def _shown(value: Any) -> str:
    return f"{float(value):.4}" if isinstance(value, float | np.floating) else str(value)


def alike(text: str, golden: str) -> bool:
    """Whether two texts differ in nothing but the last digits of numbers.

    Sums of floats differ by processor; 1 % is below one step of an INT8 scale's 127.
    """
    found, known = _NUMBER.findall(text), _NUMBER.findall(golden)
    if _NUMBER.sub("#", text) != _NUMBER.sub("#", golden):
        return False
    return bool(np.allclose([float(n) for n in found], [float(n) for n in known], 0.01, 1e-4))


def main() -> None:
    for old in HERE.glob("*.onnxtext"):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        model_dir, rows = make_model(home)
        for target, plan in cases():
            text = lowered_text(model_dir, rows, home, target, plan)
            (HERE / f"{target}.{plan}.onnxtext").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
