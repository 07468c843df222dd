"""What the device's own GEMMs take, through torch: the time that no engine of ours can be below.

A model's GEMMs with constant weights alone, in FP16, INT8 (`torch._int_mm`) and FP8
(`torch._scaled_mm`), without anything between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shapes import SIZES  # benchmarks/shapes.py

EMBEDDED = (384, 6, 12, 1536)  # hidden size, layers, heads, inner size
KINDS = ("fp16", "int8", "fp8")
LEAST_ROWS = 32  # `_int_mm` takes no fewer than 17
Timed = Callable[[Any, Callable[[], object]], float]


def ceilings(shapes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """For each model and shape of a run the GEMMs' times, or why there are none."""
    try:
        import torch
    except ImportError:
        return {"not_run": "torch is not installed"}
    if not torch.cuda.is_available():
        return {"not_run": "this torch has no CUDA, or finds no device"}
    found = {"torch": torch.__version__, "cuda": torch.version.cuda}
    return found | of_shapes(torch, shapes, "cuda", timed)


def of_shapes(
    torch: Any, shapes: Sequence[tuple[int, int]], device: str, clock: Timed
) -> dict[str, Any]:
    """Per model and shape, per kind: ms and TFLOPS (of int8: TOPS), or the reason without.

    Args:
        clock: the time of some work, ms.
    """
    found: dict[str, Any] = {}
    for size, (hidden, layers, _, inner) in {"embedded": EMBEDDED, **SIZES}.items():
        gemms = [(hidden, hidden)] * 4 + [(hidden, inner), (inner, hidden)]
        for rows, tokens in shapes:
            m = max(rows * tokens, LEAST_ROWS)
            tera = 2 * m * layers * sum(k * n for k, n in gemms) / 1e12
            entry: dict[str, Any] = {}
            for kind in KINDS:
                try:
                    form, work = products(torch, kind, m, gemms, device)
                    ms = layers * clock(torch, work)
                except Exception as error:  # torch has classes of its own for what a device lacks
                    entry[kind] = {"not_run": f"{type(error).__name__}: {error}"[:300]}
                else:
                    rate = "TOPS" if kind == "int8" else "TFLOPS"
                    entry[kind] = {"ms": ms, rate: tera / ms * 1e3, "form": form}
            for kind in KINDS[1:]:
                if "ms" in entry[kind] and "ms" in entry["fp16"]:
                    entry[kind]["times_fp16"] = entry["fp16"]["ms"] / entry[kind]["ms"]
            found[f"{size} {rows}x{tokens}"] = entry
    return found


def products(
    torch: Any, kind: str, m: int, gemms: Sequence[tuple[int, int]], device: str
) -> tuple[str, Callable[[], object]]:
    """How a kind multiplies, and the work: every GEMM of a layer once."""
    if kind == "fp16":
        halves = [
            (random(torch, (m, k), device).half(), random(torch, (k, n), device).half())
            for k, n in gemms
        ]
        return "matmul", lambda: [a @ b for a, b in halves]
    if kind == "int8":
        codes = [
            (integers(torch, (m, k), device), integers(torch, (n, k), device).t()) for k, n in gemms
        ]
        return "_int_mm", lambda: [torch._int_mm(a, b) for a, b in codes]
    eights = [
        (
            random(torch, (m, k), device).to(torch.float8_e4m3fn),
            random(torch, (n, k), device).to(torch.float8_e4m3fn).t(),
        )
        for k, n in gemms
    ]
    return scaled(torch, eights, device)


def scaled(
    torch: Any, pairs: Sequence[tuple[Any, Any]], device: str
) -> tuple[str, Callable[[], object]]:
    """FP8 products with a scale per row and per column; with one each where torch refuses those."""

    def one(size: int) -> Any:
        return torch.ones(size, device=device)

    by_row = [(a, b, one(len(a))[:, None], one(b.shape[1])[None]) for a, b in pairs]
    by_tensor = [(a, b, one(1).squeeze(), one(1).squeeze()) for a, b in pairs]

    def multiply(given: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [
            torch._scaled_mm(
                a, b, scale_a=sa, scale_b=sb, out_dtype=torch.bfloat16, use_fast_accum=True
            )
            for a, b, sa, sb in given
        ]

    try:
        multiply(by_row[:1])
    except Exception:  # of torch or the device, which have row-wise scales since later versions
        multiply(by_tensor[:1])  # what this raises is the reason
        return "_scaled_mm, scalar scales", lambda: multiply(by_tensor)
    return "_scaled_mm, row-wise scales", lambda: multiply(by_row)


def random(torch: Any, shape: tuple[int, int], device: str) -> Any:
    return torch.randn(*shape, device=device)


def integers(torch: Any, shape: tuple[int, int], device: str) -> Any:
    return torch.randint(-127, 128, shape, device=device, dtype=torch.int8)


def timed(torch: Any, work: Callable[[], object]) -> float:
    """Median of 50 runs between two events, ms; as one CUDA graph, where one can be recorded."""
    run = recorded(torch, work)
    times = []
    for _ in range(60):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return float(sorted(times[10:])[25])


def recorded(torch: Any, work: Callable[[], object]) -> Callable[[], object]:
    """The work without the launching of its kernels, which small GEMMs wait for."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        work()  # what a library sets up stays out of the graph
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            kept = work()
    except RuntimeError:
        torch.cuda.synchronize()
        return work

    def replay() -> object:
        graph.replay()
        return kept

    return replay
