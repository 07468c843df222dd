"""Sessions of ONNX Runtime's CPU provider."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from qdeploy.graph.session import refused

# ONNX Runtime fuses residual sums with LayerNormalization by itself, and on the CPU provider the
# fused kernel is several times slower than the two; FP32 baselines gain from this too.
SLOW_FUSIONS = ("SkipLayerNormFusion",)
_EXTERNAL = "session.optimized_model_external_initializers_file_name"


def session_options(threads: int) -> ort.SessionOptions:
    """Options of every timed session: a stated number of threads, no slow fusion."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def as_written(options: ort.SessionOptions) -> ort.SessionOptions:
    """Options under which Q/DQ pairs stay where they stand; the same object.

    Else ONNX Runtime moves QuantizeLinear in front of Transpose, which takes no FP8 (opset 20).
    """
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def open_session(
    path: Path, options: ort.SessionOptions, *, optimized: Path | None = None
) -> ort.InferenceSession:
    """A CPU session of an ONNX file.

    Args:
        optimized: where to write the graph that runs; its weights go beside it, wherever those of
            the file stand.

    Raises:
        RunError: the file is missing or damaged.
    """
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
        options.add_session_config_entry(_EXTERNAL, f"{optimized.name}.data")
    try:
        return ort.InferenceSession(
            path,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(SLOW_FUSIONS),
        )
    except Exception as error:  # onnxruntime raises classes of its own for each cause
        remedy = (
            f"{path.name}.data, if it was written with one, has to stand beside it; else build it "
            "again."
        )
        raise refused(error, path, "does not load in ONNX Runtime", remedy) from error
