"""How far an engine's outputs move when its FP32 constants do, by a rounding or by more.

    python benchmarks/moved_constants.py ENGINE_DIR

Every bias and LayerNorm parameter is multiplied by 1 + ε · N(0, 1), and the canary rows of the
engine (`ort-cpu`) are run again: docs/adr/0040.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir

from qdeploy.deploy.canary import read_canary, run_canary
from qdeploy.deploy.targets.ort_cpu.engine import OrtCpuEngine
from qdeploy.files.artifact import read_manifest
from qdeploy.files.scratch import scratch
from qdeploy.head import head_of

SEEDS = 3
LEAST = 128  # numbers of a vector that is moved: no scale of a tensor


def moved(path: Path, size: float, seed: int) -> ir.Model:
    """The graph of a file with other constants."""
    model = ir.external_data.load_to_model(ir.load(path))
    rng = np.random.default_rng(seed)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) != 1:
            continue
        if tensor.size >= LEAST:
            numbers = tensor.numpy() * (1 + size * rng.standard_normal(tensor.size))
            value.const_value = ir.tensor(numbers.astype(np.float32), name=value.name)
    return model


def main(directory: Path) -> None:
    """Print a line for each size."""
    canary, head = read_canary(directory), head_of(directory, read_manifest(directory, "engine"))
    print(f"against FP32: {canary['noise']}; allowed: {canary['tolerance']}")
    for size in (0.0, 1e-7, 1e-6, 1e-5, 1e-4):
        found = []
        for seed in range(SEEDS):
            with scratch("moved") as folder:
                graph = moved(directory / "model.onnx", size, seed)
                ir.save(graph, folder / "model.onnx", external_data="model.onnx.data")
                found.append(run_canary(OrtCpuEngine(folder / "model.onnx"), canary, head))
        levels = ", ".join(f"{one.sqnr_db:.1f}" for one in found)
        largest = ", ".join(f"{max(one.row_diffs):.3f}" for one in found)
        print(f"{size:g}: {levels} dB, largest difference {largest}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
