"""Quantize one ONNX model as one peer documents it; run by benchmarks/peers.py, one process each.

    python benchmarks/peers_build.py PEER MODEL_DIR CHECKPOINT_DIR OUTPUT_DIR

OUTPUT_DIR holds what peers calibrate on: feeds.npz, and the same rows as text in rows/train.jsonl.
Runs in the peer's environment, so it imports nothing of qdeploy. Prints one line of JSON: seconds,
peak memory in MB, file.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Given:
    """What a peer is built from, and the folder that it writes to."""

    model: Path  # a model directory of qdeploy
    checkpoint: Path  # the same model as transformers saves it
    out: Path

    @property
    def onnx(self) -> Path:
        return self.model / "model.onnx"

    @property
    def feeds(self) -> Path:
        return self.out / "feeds.npz"

    @property
    def rows(self) -> Path:
        """Folder of train.jsonl: the rows of `feeds` as one "text" each."""
        return self.out / "rows"


def batches(path: Path) -> Iterator[dict[str, Any]]:
    """The calibration batches: arrays named `<batch>/<input>`."""
    with np.load(path) as arrays:
        names = sorted(arrays.files, key=lambda name: int(name.split("/")[0]))
        count = int(names[-1].split("/")[0]) + 1
        for at in range(count):
            prefix = f"{at}/"
            yield {n.removeprefix(prefix): arrays[n] for n in names if n.startswith(prefix)}


def ort_dynamic(given: Given) -> Path:
    """onnxruntime.quantization.quantize_dynamic on the plain graph, weights per channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(given.onnx, given.out / "model.onnx", weight_type=QuantType.QInt8,
                     per_channel=True)  # fmt: skip
    return given.out / "model.onnx"


def ort_dynamic_fused(given: Given) -> Path:
    """The same after onnxruntime.transformers' fusions for BERT (attention becomes QAttention)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    config = json.loads((given.model / "config.json").read_text("utf-8"))
    fused = optimize_model(
        str(given.onnx),
        model_type="bert",
        num_heads=config["num_attention_heads"],
        hidden_size=config["hidden_size"],
    )
    fused.save_model_to_file(str(given.out / "fused.onnx"))
    quantize_dynamic(given.out / "fused.onnx", given.out / "model.onnx",
                     weight_type=QuantType.QInt8, per_channel=True)  # fmt: skip
    return given.out / "model.onnx"


def ort_static(method: str) -> Callable[[Given], Path]:
    """onnxruntime.quantization.quantize_static: QDQ, U8S8, weights per channel, GEMMs only."""

    def build(given: Given) -> Path:
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
                self._left = batches(given.feeds)

            def get_next(self) -> dict[str, Any] | None:
                return next(self._left, None)

        source = given.out / "prepared.onnx"
        quant_pre_process(str(given.onnx), str(source), skip_symbolic_shape=True)
        quantize_static(
            source,
            given.out / "model.onnx",
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul"],
            calibrate_method=getattr(CalibrationMethod, method),
            extra_options={"MatMulConstBOnly": True},
        )
        return given.out / "model.onnx"

    return build


def openvino_nncf(given: Given) -> Path:
    """nncf.quantize with model_type TRANSFORMER, its default otherwise."""
    import nncf
    import openvino

    rows = list(batches(given.feeds))
    converted = openvino.Core().read_model(str(given.onnx))
    quantized = nncf.quantize(
        converted,
        nncf.Dataset(rows),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(rows),
    )
    openvino.save_model(quantized, str(given.out / "model.xml"), compress_to_fp16=False)
    return given.out / "model.xml"


def _processor() -> str:
    """The preset of Optimum and sentence-transformers for this processor."""
    flags = Path("/proc/cpuinfo").read_text("utf-8").split()
    presets = {"avx512_vnni": "avx512_vnni", "avx512f": "avx512"}
    return next((preset for flag, preset in presets.items() if flag in flags), "avx2")


def optimum(given: Given) -> Path:
    """Optimum's ORTQuantizer with its configuration for this processor, dynamic, per channel."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    quantizer = ORTQuantizer.from_pretrained(given.model, file_name="model.onnx")
    settings = getattr(AutoQuantizationConfig, _processor())(is_static=False, per_channel=True)
    quantizer.quantize(save_dir=given.out, quantization_config=settings)
    return given.out / "model_quantized.onnx"


def _sentence_model(given: Given, backend: str) -> Any:
    """An embedding model where the checkpoint is one, else a CrossEncoder, exported."""
    from sentence_transformers import CrossEncoder, SentenceTransformer

    embeds = (given.checkpoint / "modules.json").is_file()
    kind = SentenceTransformer if embeds else CrossEncoder
    return kind(str(given.checkpoint), backend=backend, model_kwargs={"export": True})


def sentence_onnx_dynamic(given: Given) -> Path:
    """sentence-transformers' export and dynamic quantization."""
    from sentence_transformers import export_dynamic_quantized_onnx_model

    model = _sentence_model(given, "onnx")
    export_dynamic_quantized_onnx_model(model, _processor(), str(given.out))
    return next((given.out / "onnx").glob("model_*.onnx"))


def sentence_openvino_static(given: Given) -> Path:
    """sentence-transformers' export and static quantization (by NNCF), on the same rows."""
    from sentence_transformers import export_static_quantized_openvino_model

    model = _sentence_model(given, "openvino")
    export_static_quantized_openvino_model(
        model,
        None,
        str(given.out),
        dataset_name=str(given.rows),
        dataset_config_name="default",
        dataset_split="train",
        column_name="text",
    )
    return next((given.out / "openvino").glob("*_quantized.xml"))


def torchao_inductor(given: Given) -> Path:
    """torchao's PT2E static quantization for x86, compiled ahead of time by inductor."""
    import torch
    import transformers
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            auto = transformers.AutoModelForSequenceClassification
            self.model = auto.from_pretrained(given.checkpoint, attn_implementation="sdpa").eval()

        def forward(self, feeds: dict[str, torch.Tensor]) -> torch.Tensor:
            logits: torch.Tensor = self.model(**feeds).logits
            return logits

    rows = [{k: torch.from_numpy(v) for k, v in feeds.items()} for feeds in batches(given.feeds)]
    axes = {0: torch.export.Dim("rows", max=1024), 1: torch.export.Dim("tokens", min=2, max=512)}
    example, shapes = (rows[0],), (dict.fromkeys(rows[0], axes),)
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    with torch.no_grad():
        graph = torch.export.export(Logits(), example, dynamic_shapes=shapes).module()
        prepared = prepare_pt2e(graph, quantizer)
        for feeds in rows:
            prepared(feeds)
        quantized = convert_pt2e(prepared)
        program = torch.export.export(quantized, example, dynamic_shapes=shapes)
        torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(given.out / "model.pt2"),
            inductor_configs={"freezing": True},
        )
    return given.out / "model.pt2"


PEERS: dict[str, Callable[[Given], Path]] = {
    "ort-dynamic": ort_dynamic,
    "ort-dynamic-fused": ort_dynamic_fused,
    "ort-static-minmax": ort_static("MinMax"),
    "ort-static-percentile": ort_static("Percentile"),
    "ort-static-entropy": ort_static("Entropy"),
    "openvino-nncf": openvino_nncf,
    "optimum": optimum,
    "sentence-onnx-dynamic": sentence_onnx_dynamic,
    "sentence-openvino-static": sentence_openvino_static,
    "torchao-inductor-static": torchao_inductor,
}


def main() -> None:
    peer, given = sys.argv[1], Given(*map(Path, sys.argv[2:5]))
    began = time.monotonic()
    path = PEERS[peer](given)
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
