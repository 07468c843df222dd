"""Quantize one ONNX model as one peer documents it; run by benchmarks/peers.py, one process each.

    python benchmarks/peers_build.py PEER MODEL_DIR FEEDS.npz OUTPUT_DIR

Runs in the peers' environment (peers-requirements.txt, or Optimum's own), so it imports nothing of
qdeploy. Prints one line of JSON: seconds, peak memory in MB, file.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np


def batches(path: Path) -> Iterator[dict[str, Any]]:
    """The calibration batches: arrays named `<batch>/<input>`."""
    with np.load(path) as arrays:
        names = sorted(arrays.files, key=lambda name: int(name.split("/")[0]))
        count = int(names[-1].split("/")[0]) + 1
        for at in range(count):
            prefix = f"{at}/"
            yield {n.removeprefix(prefix): arrays[n] for n in names if n.startswith(prefix)}


def ort_dynamic(model: Path, _: Path, out: Path) -> Path:
    """onnxruntime.quantization.quantize_dynamic on the plain graph, weights per channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(model / "model.onnx", out / "model.onnx", weight_type=QuantType.QInt8,
                     per_channel=True)  # fmt: skip
    return out / "model.onnx"


def ort_dynamic_fused(model: Path, _: Path, out: Path) -> Path:
    """The same after onnxruntime.transformers' fusions for BERT (attention becomes QAttention)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    config = json.loads((model / "config.json").read_text("utf-8"))
    fused = optimize_model(
        str(model / "model.onnx"),
        model_type="bert",
        num_heads=config["num_attention_heads"],
        hidden_size=config["hidden_size"],
    )
    fused.save_model_to_file(str(out / "fused.onnx"))
    quantize_dynamic(out / "fused.onnx", out / "model.onnx", weight_type=QuantType.QInt8,
                     per_channel=True)  # fmt: skip
    return out / "model.onnx"


def ort_static(method: str) -> Callable[[Path, Path, Path], Path]:
    """onnxruntime.quantization.quantize_static: QDQ, U8S8, weights per channel, GEMMs only."""

    def build(model: Path, feeds: Path, out: Path) -> Path:
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self._left = batches(feeds)

            def get_next(self) -> dict[str, Any] | None:
                return next(self._left, None)

        source = out / "prepared.onnx"
        quant_pre_process(str(model / "model.onnx"), str(source), skip_symbolic_shape=True)
        quantize_static(
            source,
            out / "model.onnx",
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul"],
            calibrate_method=getattr(CalibrationMethod, method),
            extra_options={"MatMulConstBOnly": True},
        )
        return out / "model.onnx"

    return build


def openvino_nncf(model: Path, feeds: Path, out: Path) -> Path:
    """nncf.quantize with model_type TRANSFORMER, its default otherwise."""
    import nncf
    import openvino

    rows = list(batches(feeds))
    converted = openvino.Core().read_model(str(model / "model.onnx"))
    quantized = nncf.quantize(
        converted,
        nncf.Dataset(rows),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(rows),
    )
    openvino.save_model(quantized, str(out / "model.xml"), compress_to_fp16=False)
    return out / "model.xml"


def optimum(model: Path, _: Path, out: Path) -> Path:
    """Optimum's ORTQuantizer with its configuration for AVX512-VNNI, dynamic, per channel."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    quantizer = ORTQuantizer.from_pretrained(model, file_name="model.onnx")
    settings = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    quantizer.quantize(save_dir=out, quantization_config=settings)
    return out / "model_quantized.onnx"


PEERS: dict[str, Callable[[Path, Path, Path], Path]] = {
    "ort-dynamic": ort_dynamic,
    "ort-dynamic-fused": ort_dynamic_fused,
    "ort-static-minmax": ort_static("MinMax"),
    "ort-static-percentile": ort_static("Percentile"),
    "ort-static-entropy": ort_static("Entropy"),
    "openvino-nncf": openvino_nncf,
    "optimum": optimum,
}


def main() -> None:
    peer, model, feeds, out = sys.argv[1], *map(Path, sys.argv[2:5])
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    path = PEERS[peer](model, feeds, out)
    status = Path("/proc/self/status").read_text("utf-8")
    peak = re.search(r"VmHWM:\s+(\d+)", status)
    assert peak is not None
    report = {
        "seconds": time.monotonic() - began,
        "peak_mb": int(peak[1]) / 1000,
        "file": str(path),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
