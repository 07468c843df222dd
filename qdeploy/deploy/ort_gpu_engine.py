"""ONNX Runtime on a GPU: the engines of `ort-cuda` and `ort-tensorrt`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from qdeploy.deploy.engine import KernelTime, Witness, inputs_of
from qdeploy.deploy.request import Compilation
from qdeploy.errors import ModelError, TargetError

Array = npt.NDArray[Any]
ONNX, CACHE = "model.onnx", "cache"
CUDA, TENSORRT, CPU = (
    "CUDAExecutionProvider",
    "TensorrtExecutionProvider",
    "CPUExecutionProvider",
)
INSTALL = (
    "Type: pip uninstall onnxruntime && pip install 'qdeploy[gpu]' on a machine with an NVIDIA GPU "
    "(the packages onnxruntime and onnxruntime-gpu overwrite each other)"
)
_LARGEST_ROWS = 32  # of a run, where --max-shape is left out


class OrtGpuEngine:
    """See `qdeploy.deploy.engine.Engine`.

    Attributes:
        providers: of the session, the wanted one first.
    """

    def __init__(
        self, path: Path, providers: Sequence[tuple[str, Mapping[str, Any]]], *, threads: int = 2
    ) -> None:
        self.path = path
        self.threads = threads
        self._wanted = providers
        self._session = _open(path, providers, threads)
        self.providers = tuple(self._session.get_providers())
        self.input_names = tuple(value.name for value in self._session.get_inputs())
        self.output_names = tuple(value.name for value in self._session.get_outputs())

    def bind(self, feeds: Mapping[str, Array]) -> Callable[[], None]:
        """A run on inputs that lie on the device already, and whose outputs stay there.

        What is timed is then the run alone, with no copy in it.
        """
        binding = self._session.io_binding()
        for name, array in inputs_of(feeds, self.input_names).items():
            value = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), "cuda", 0)
            binding.bind_ortvalue_input(name, value)
        for name in self.output_names:
            binding.bind_output(name, "cuda")

        def run() -> None:
            self._session.run_with_iobinding(binding)  # waits for the device
            self._bound = binding

        return run

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; int64 [B, S] feeds, FP32 outputs.

        Raises:
            DataError: an input is missing.
        """
        outputs = self._session.run(None, inputs_of(feeds, self.input_names))
        return dict(zip(self.output_names, (np.asarray(o) for o in outputs), strict=True))

    def profile(self, feeds: Mapping[str, Array], iterations: int = 20) -> list[KernelTime]:
        """Mean time of each kernel over `iterations` runs after one warm-up."""
        return self._profiled(feeds, iterations)[0]

    def witness(
        self, gemms: Mapping[str, Sequence[str]], feeds: Mapping[str, Array], iterations: int = 3
    ) -> Witness:
        """Find each GEMM by its int8 weights (ort-cuda) or in TensorRT's engine (ort-tensorrt)."""
        from qdeploy.deploy.ort_profile import find_kernels

        kernels, providers, graph = self._profiled(feeds, iterations)
        if self.providers[0] == TENSORRT:
            return Witness(self._in_tensorrt(gemms), kernels)
        found = find_kernels(graph, gemms, kernels)
        return Witness({g: [_where(k, providers) for k in ks] for g, ks in found.items()}, kernels)

    def _profiled(
        self, feeds: Mapping[str, Array], iterations: int
    ) -> tuple[list[KernelTime], dict[str, str], Any]:
        """Kernels, the provider of each by its name, and the graph that ran."""
        from qdeploy.deploy.ort_profile import kernel_times, providers_of
        from qdeploy.deploy.ort_proof import load_optimized

        with tempfile.TemporaryDirectory() as folder:
            optimized = Path(folder) / "optimized.onnx"
            prefix = str(Path(folder) / "profile")
            session = _open(self.path, self._wanted, self.threads, optimized, prefix)
            wanted = inputs_of(feeds, self.input_names)
            for _ in range(iterations + 1):
                session.run(None, wanted)
            events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
            graph = load_optimized(optimized) if optimized.is_file() else None
        return kernel_times(events, iterations + 1), providers_of(events), graph

    def _in_tensorrt(self, gemms: Mapping[str, Sequence[str]]) -> dict[str, list[KernelTime]]:
        """The layers of the cached engines that stand for each GEMM."""
        from qdeploy.deploy import tensorrt_inspector as inspector
        from qdeploy.deploy.tensorrt_api import Opened

        layers = []
        for plan in sorted((self.path.parent / CACHE).glob("*.engine")):
            layers += inspector.layers(Opened(plan.read_bytes()).information())
        return inspector.of_gemms(layers, inspector.kernels(layers, {}), gemms)


def require() -> None:
    """Refuse a machine without the package or a GPU.

    Raises:
        TargetError: what is missing.
    """
    available = ort.get_available_providers()
    if CUDA not in available:
        raise TargetError(
            f"This onnxruntime has no CUDA provider ({', '.join(available)}). {INSTALL}. `build "
            "--dry-run` writes the ONNX file here; `eval --simulate` measures its accuracy."
        )


def providers_for(directory: Path, manifest: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The providers of a target's session, the wanted one first, with their options."""
    plain: list[tuple[str, dict[str, Any]]] = [(CUDA, {"device_id": 0}), (CPU, {})]
    if manifest["target"] != "ort-tensorrt":
        return plain
    shapes = manifest["builder"]["shapes"]
    options: dict[str, Any] = {
        "device_id": 0,
        "trt_fp16_enable": True,
        "trt_int8_enable": True,  # explicit Q/DQ: no calibration table
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(directory / CACHE),
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(directory / CACHE),
        "trt_detailed_build_log": True,
    }
    for name, shape in (("min", "min"), ("opt", "opt"), ("max", "max")):
        rows, tokens = shapes[shape]
        texts = [f"{given}:{rows}x{tokens}" for given in manifest["inputs"]]
        options[f"trt_profile_{name}_shapes"] = ",".join(texts)
    if manifest["builder"]["workspace_mb"] is not None:
        options["trt_max_workspace_size"] = manifest["builder"]["workspace_mb"] * 1_000_000
    return [(TENSORRT, options), *plain]


def compile_directory(
    directory: Path, manifest: Mapping[str, Any], shape: tuple[int, int], how: Compilation
) -> dict[str, Any]:
    """Let ort-tensorrt fill its engine cache; ort-cuda has nothing to compile.

    Returns:
        {"builder": {"shapes": …, "workspace_mb": …}} for the manifest.
    """
    longest = int(manifest["max_length"])
    largest = how.largest or (max(_LARGEST_ROWS, shape[0]), longest)
    shapes = {
        "min": list(how.least or (1, 2)),
        "opt": [shape[0], min(shape[1], largest[1])],
        "max": list(largest),
    }
    found = {"builder": {"shapes": shapes, "workspace_mb": how.workspace_mb}}
    (directory / CACHE).mkdir(exist_ok=True)
    engine = open_directory(directory, dict(manifest) | found, threads=2)
    ones = np.ones(shapes["opt"], np.int64)
    engine.run(dict.fromkeys(engine.input_names, ones))
    return found


def open_directory(directory: Path, manifest: dict[str, Any], threads: int) -> OrtGpuEngine:
    """The engine of an engine directory; see `qdeploy.deploy.targets.Target`."""
    require()
    return OrtGpuEngine(directory / ONNX, providers_for(directory, manifest), threads=threads)


def _open(
    path: Path,
    providers: Sequence[tuple[str, Mapping[str, Any]]],
    threads: int,
    optimized: Path | None = None,
    profile: str | None = None,
) -> ort.InferenceSession:
    """A session whose first provider is the wanted one, and not what ORT falls back to.

    Raises:
        ModelError: the file does not load.
        TargetError: the provider did not start.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if providers[0][0] == TENSORRT:  # its own optimizer is to see the pairs as they are
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    elif optimized is not None:
        options.optimized_model_filepath = str(optimized)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    try:
        session = ort.InferenceSession(
            path, options, providers=[(n, dict(o)) for n, o in providers]
        )
    except Exception as error:  # onnxruntime raises classes of its own for each cause
        first = str(error).splitlines()[0]
        raise ModelError(
            f"{path} does not load in ONNX Runtime: {first}. Build it again."
        ) from error
    if session.get_providers()[0] != providers[0][0]:
        raise TargetError(
            f"ONNX Runtime started {session.get_providers()[0]} instead of {providers[0][0]}: its "
            "libraries (CUDA, cuDNN, TensorRT 10) or the driver are missing. `qdeploy doctor` says "
            "what is here."
        )
    return session


def _where(kernel: KernelTime, providers: Mapping[str, str]) -> KernelTime:
    """A kernel with its provider: INT8 on the CPU is no INT8 of this target."""
    provider = providers.get(kernel.name, CUDA)
    if provider == CUDA or not kernel.int8:
        return kernel
    return replace(kernel, int8=False, fault=f"it ran on {provider}")
