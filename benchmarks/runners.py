"""One call per engine, whatever runs it, and their times in alternating rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qdeploy.deploy.open import open_engine
from qdeploy.deploy.targets.openvino.engine import OpenVinoEngine
from qdeploy.deploy.targets.ort_cpu.engine import OrtCpuEngine

if TYPE_CHECKING:
    from transformers import PreTrainedModel

THREADS = 2
ROUNDS = 10
SECONDS = 0.4  # of one engine in one round, at least one run
Runner = Callable[[Mapping[str, Any]], Any]


def _ort(path: Path) -> Runner:
    """ONNX Runtime; without its slow SkipLayerNormalization, which helps FP32 (docs/targets.md)."""
    engine = OrtCpuEngine(path, threads=THREADS)
    return lambda feeds: next(iter(engine.run(feeds).values()))


def _openvino(path: Path, rest: str = "f32") -> Runner:
    engine = OpenVinoEngine(path, threads=THREADS, rest=rest)
    return lambda feeds: next(iter(engine.run(feeds).values()))


def _qdeploy(directory: Path) -> Runner:
    engine = open_engine(directory, threads=THREADS)
    return lambda feeds: engine.run(feeds)[engine.output_names[0]]


def transformers_model(checkpoint: Path | str) -> PreTrainedModel:
    """The model of a checkpoint, as `export` loads it."""
    from qdeploy.exporter.checkpoint import find_checkpoint
    from qdeploy.exporter.loading import load_model
    from qdeploy.exporter.tasks import task_of

    found = find_checkpoint(checkpoint)
    return load_model(found, task_of(found.name, found.config, found.adapter_config, None)).eval()


def _torch(checkpoint: Path | str, rest: str = "f32", *, compiled: bool = False) -> Runner:
    """transformers with PyTorch's fused attention, FP32 or all of it in BF16.

    Args:
        compiled: by torch.compile, for any shape; else in eager mode.
    """
    import torch

    torch.set_num_threads(THREADS)
    model: Any = transformers_model(checkpoint)
    model.set_attn_implementation("sdpa")
    model = model.to(torch.bfloat16 if rest == "bf16" else torch.float32)
    if compiled:
        model = torch.compile(model, dynamic=True)

    def run(feeds: Mapping[str, Any]) -> Any:
        with torch.inference_mode():
            inputs = {name: torch.from_numpy(array) for name, array in feeds.items()}
            return model(**inputs).logits.float().numpy()

    return run


def _inductor(path: Path) -> Runner:
    """A model that inductor compiled ahead of time, of one argument: its inputs by name."""
    import torch

    torch.set_num_threads(THREADS)
    model = torch._inductor.aoti_load_package(str(path))

    def run(feeds: Mapping[str, Any]) -> Any:
        return model({name: torch.from_numpy(array) for name, array in feeds.items()}).numpy()

    return run


RUNNERS: dict[str, Callable[..., Runner]] = {
    "ort": _ort,
    "openvino": _openvino,
    "qdeploy": _qdeploy,
    "torch": _torch,
    "inductor": _inductor,
}


def interleaved(opened: Mapping[str, Runner], feeds: Mapping[str, Any]) -> dict[str, float]:
    """Median ms of each engine; each takes its turn in every round, every second one backwards."""
    runs = {}
    for name, runner in opened.items():
        runner(feeds)
        began = time.perf_counter()
        runner(feeds)
        runs[name] = max(1, round(SECONDS / (time.perf_counter() - began)))
    times: dict[str, list[float]] = {name: [] for name in opened}
    for turn in range(ROUNDS):
        order = list(opened) if turn % 2 == 0 else list(reversed(opened))
        for name in order:
            opened[name](feeds)  # wakes its threads; the last engine's may still spin
            for _ in range(runs[name]):
                began = time.perf_counter()
                opened[name](feeds)
                times[name].append((time.perf_counter() - began) * 1e3)
    return {name: round(float(np.median(found)), 3) for name, found in times.items()}
