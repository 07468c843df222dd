"""qdeploy: INT8 engines of encoder transformers that keep their accuracy.

    export(checkpoint, model_dir)     checkpoint → FP32 ONNX
    calibrate(model_dir)              one streaming pass → statistics
    analyze(model_dir)                outlier channels, what each site costs, what mends it
    build(model_dir, engine_dir)      strategy and target → engine directory
    evaluate(engine_dir)              accuracy, latency, size, INT8 kernels
    sweep(model, sweep_dir, recipe=…) many engines, measured alike and compared
    load(engine_dir).predict(pairs)   labels and scores
    predict_file(engine_dir, file)    the same, of a file or a pipe of rows
    bundle(engine_dir, out)           a directory that a server or another library loads
    inspect_against(file, fp32)       what a quantized ONNX file of anybody loses
    verify(engine_dir), sign(…)       whether an engine is whole, and does here what it did there
    inspect(path), doctor(), demo(directory)

Each is the Python form of the command of that name (`inspect FILE --against FP32` of the one but
last line). Importing this package loads none of torch,
transformers, onnxruntime and matplotlib: a function loads what it needs when it is called.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qdeploy import errors
    from qdeploy.api import (
        analyze,
        build,
        bundle,
        calibrate,
        demo,
        doctor,
        evaluate,
        export,
        inspect,
        inspect_against,
        load,
        predict_file,
        sign,
        sweep,
        verify,
    )

from qdeploy._callable import CALLABLE, Package
from qdeploy._package import __version__
from qdeploy.machine.telemetry import turn_off

turn_off()  # before anything that would report is imported
sys.modules[__name__].__class__ = Package

__all__ = [
    "__version__",
    "analyze",
    "build",
    "bundle",
    "calibrate",
    "demo",
    "doctor",
    "errors",
    "evaluate",
    "export",
    "inspect",
    "inspect_against",
    "load",
    "predict_file",
    "sign",
    "sweep",
    "verify",
]

# Names that are modules; those that are functions as well are callable modules (docs/adr/0001).
_MODULES = (*CALLABLE, "errors")


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'qdeploy' has no attribute '{name}'")
    if name in _MODULES:
        return importlib.import_module(f"qdeploy.{name}")
    return getattr(importlib.import_module("qdeploy.api"), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
