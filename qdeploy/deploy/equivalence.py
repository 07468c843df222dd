"""Two graphs that must compute the same: run both and compare."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir

from qdeploy.deploy.certificate import probe_feeds
from qdeploy.deploy.ort_cpu_engine import open_session, session_options
from qdeploy.errors import VerificationError

# Reordered channels are summed in another order: FP32 rounding, far below any quantization step.
TOLERANCE = 1e-4


def require_equal(original: ir.Model, changed: ir.Model, inputs: list[str]) -> float:
    """Largest difference of the FP32 outputs of two graphs on a small input.

    Raises:
        VerificationError: more than 1e-4.
    """
    feeds = probe_feeds(inputs, batch=2, sequence=12)
    outputs = []
    for model in (original, changed):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            ir.save(model, path, external_data="model.onnx.data")
            outputs.append(open_session(path, session_options(threads=2)).run(None, feeds))
    worst = max(float(np.abs(a - b).max()) for a, b in zip(*outputs, strict=True))
    if not worst < TOLERANCE:
        raise VerificationError(
            f"Folding a channel permutation changed the FP32 outputs by {worst:.3g} (at most "
            f"{TOLERANCE} was expected). Report this with the model's architecture."
        )
    return worst
