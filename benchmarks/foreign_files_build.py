"""Make one file as its makers' tool makes it; run by benchmarks/foreign_files.py, one process each.

    python benchmarks/foreign_files_build.py NAME HUB_DIR FEEDS OUTPUT_DIR

HUB_DIR is laid out as on the hub: config.json, the tokenizer, onnx/model.onnx; with NAME `export`
it holds the checkpoint, and the FP32 file is what is made. FEEDS are calibration batches (.npz,
names `<batch>/<input>`). Runs in the tool's environment, so it imports nothing of qdeploy. Prints
one line of JSON: file, seconds, versions.
"""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from peers_build import batches  # benchmarks/peers_build.py

NAMED = ("optimum", "optimum-onnx", "sentence-transformers", "onnxruntime", "onnx", "nncf")
NAMED += ("olive-ai", "amd-quark", "onnx-neural-compressor", "neural-compressor", "transformers")


@dataclass(frozen=True)
class Given:
    """What a file is made from, and the folder that it goes to."""

    hub: Path
    feeds: Path
    out: Path

    @property
    def onnx(self) -> Path:
        return self.hub / "onnx" / "model.onnx"

    @property
    def names(self) -> list[str]:
        """The inputs of the model."""
        return list(next(batches(self.feeds)))


class Reader:
    """Calibration batches as ONNX Runtime's quantizer, Quark and INC read them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rewind()

    def rewind(self) -> None:
        self._left: Iterator[dict[str, Any]] = batches(self._path)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._left, None)


def export(given: Given) -> Path:
    """FP32 by Optimum's main_export (TorchScript exporter), its optimizations left out."""
    from optimum.exporters.onnx import main_export

    main_export(str(given.hub), given.out, task="text-classification", do_validation=False)
    return given.out / "model.onnx"


def optimum(preset: str, *, static: bool) -> Callable[[Given], Path]:
    """ORTQuantizer with a preset of AutoQuantizationConfig, per tensor as its command line."""

    def build(given: Given) -> Path:
        from optimum.onnxruntime import ORTQuantizer
        from optimum.onnxruntime.configuration import AutoCalibrationConfig, AutoQuantizationConfig

        shutil.copy(given.hub / "config.json", given.onnx.parent)
        quantizer = ORTQuantizer.from_pretrained(given.onnx.parent, file_name="model.onnx")
        settings = getattr(AutoQuantizationConfig, preset)(is_static=static, per_channel=False)
        more: dict[str, Any] = {}
        if static:
            from datasets import Dataset

            rows = [
                {name: array[at].tolist() for name, array in batch.items()}
                for batch in batches(given.feeds)
                for at in range(len(batch["input_ids"]))
            ]
            data = Dataset.from_list(rows)
            more["calibration_tensors_range"] = quantizer.fit(
                dataset=data,
                calibration_config=AutoCalibrationConfig.minmax(data),
                operators_to_quantize=settings.operators_to_quantize,
                batch_size=8,
            )
        quantizer.quantize(save_dir=given.out, quantization_config=settings, **more)
        return given.out / "model_quantized.onnx"

    return build


def sentence(preset: str) -> Callable[[Given], Path]:
    """sentence-transformers' export_dynamic_quantized_onnx_model of a CrossEncoder."""

    def build(given: Given) -> Path:
        from sentence_transformers import CrossEncoder, export_dynamic_quantized_onnx_model

        model = CrossEncoder(
            str(given.hub), backend="onnx", model_kwargs={"file_name": "model.onnx"}
        )
        export_dynamic_quantized_onnx_model(model, preset, str(given.out))
        return next((given.out / "onnx").glob("model_*.onnx"))

    return build


def transformers_js_q8(given: Given) -> Path:
    """`--modes q8` of transformers.js' scripts/quantize.py: int8 weights (no Conv), per tensor."""
    import onnx
    from onnxruntime.quantization import QuantizationMode, QuantType
    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.registry import IntegerOpsRegistry

    quantizer = ONNXQuantizer(
        onnx.load_model(given.onnx),
        None,  # per_channel: the script's default
        None,  # reduce_range: the same
        mode=QuantizationMode.IntegerOps,
        static=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=None,
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=set(IntegerOpsRegistry),
        extra_options={"EnableSubgraph": True, "MatMulConstBOnly": True},
    )
    quantizer.quantize_model()
    onnx.save(quantizer.model.model, given.out / "model_quantized.onnx")
    return given.out / "model_quantized.onnx"


def transformers_js_fp16(given: Given) -> Path:
    """`--modes fp16` of the same; its float16.py is ONNX Runtime's (and onnxslim is left out)."""
    import onnx
    from onnxruntime.transformers import float16

    half = float16.convert_float_to_float16(onnx.load_model(given.onnx), keep_io_types=True)
    onnx.save(half, given.out / "model_fp16.onnx")
    return given.out / "model_fp16.onnx"


def olive(given: Given) -> Path:
    """Olive's OnnxDynamicQuantization with its defaults."""
    from olive.workflows import run

    run(
        {
            "input_model": {"type": "ONNXModel", "model_path": str(given.onnx)},
            "passes": {"quantize": {"type": "OnnxDynamicQuantization"}},
            "output_dir": str(given.out / "olive"),
            "cache_dir": str(given.out / "cache"),
            "evaluate_input_model": False,
        }
    )
    return next((given.out / "olive").rglob("*.onnx"))


def nncf(given: Given) -> Path:
    """nncf.quantize on the ONNX model, model_type TRANSFORMER, its defaults otherwise."""
    import nncf as tool
    import onnx

    rows = list(batches(given.feeds))
    quantized = tool.quantize(
        onnx.load(given.onnx),
        tool.Dataset(rows),
        model_type=tool.ModelType.TRANSFORMER,
        subset_size=len(rows),
    )
    onnx.save(quantized, given.out / "model_nncf.onnx")
    return given.out / "model_nncf.onnx"


def quark(given: Given) -> Path:
    """AMD Quark's preset INT8_TRANSFORMER_DEFAULT."""
    from quark.onnx import ModelQuantizer
    from quark.onnx.quantization.config import Config, get_default_config

    settings = Config(global_quant_config=get_default_config("INT8_TRANSFORMER_DEFAULT"))
    path = given.out / "model_quark.onnx"
    ModelQuantizer(settings).quantize_model(str(given.onnx), str(path), Reader(given.feeds))
    return path


def inc(*, static: bool) -> Callable[[Given], Path]:
    """onnx-neural-compressor's quantize with the defaults of its configuration."""

    def build(given: Given) -> Path:
        from onnx_neural_compressor import data_reader
        from onnx_neural_compressor.quantization import config, quantize

        class Rows(Reader, data_reader.CalibrationDataReader):
            pass

        path = given.out / "model_inc.onnx"
        settings: Any = config.DynamicQuantConfig()
        if static:
            settings = config.StaticQuantConfig(calibration_data_reader=Rows(given.feeds))
        quantize(str(given.onnx), str(path), settings)
        return path

    return build


PRESETS = ("avx2", "avx512_vnni", "arm64")
FILES: dict[str, Callable[[Given], Path]] = {
    "export": export,
    **{f"optimum-dynamic-{name}": optimum(name, static=False) for name in PRESETS},
    **{f"optimum-static-{name}": optimum(name, static=True) for name in PRESETS},
    **{f"sentence-transformers-{name}": sentence(name) for name in PRESETS},
    "transformers.js-q8": transformers_js_q8,
    "transformers.js-fp16": transformers_js_fp16,
    "olive-dynamic": olive,
    "nncf": nncf,
    "quark-int8-transformer": quark,
    "inc-dynamic": inc(static=False),
    "inc-static": inc(static=True),
}


def versions() -> dict[str, str]:
    """Of the tools that this environment has."""
    found = {}
    for name in NAMED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def main() -> None:
    name, given = sys.argv[1], Given(*map(Path, sys.argv[2:5]))
    given.out.mkdir(parents=True, exist_ok=True)
    assert np.__version__  # an environment without numpy fails here, by name
    began = time.monotonic()
    path = FILES[name](given)
    told = {"file": str(path), "seconds": time.monotonic() - began, "versions": versions()}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
