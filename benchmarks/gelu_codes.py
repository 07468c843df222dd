"""GELU on 8-bit codes by a table, against GELU on floats: what it would gain in ONNX Runtime.

    python benchmarks/gelu_codes.py

The input of BERT-base's second feed-forward GEMM, [tokens, 3072]: as engines compute it (Gelu, then
QuantizeLinear), and as QuantizeLinear and a Gather in a table of 256 codes.
"""

from __future__ import annotations

import time

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

CHANNELS, RUNS, THREADS = 3072, 40, 2
TOKENS = (51, 256, 1024)
GRAPHS = {
    "Gelu, QuantizeLinear": """
        g = com.microsoft.Gelu(x)
        y = QuantizeLinear(g, scale, zero)""",
    "QuantizeLinear, Gather": """
        codes = QuantizeLinear(x, scale, zero)
        index = Cast<to: int = 6>(codes)
        y = Gather(table, index)""",
}


def session(body: str) -> ort.InferenceSession:
    """A graph of x: float [N, 3072] to y: uint8 [N, 3072]."""
    table = ",".join(str(code) for code in range(256))
    text = f"""<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>
        gelu (float[N, {CHANNELS}] x) => (uint8[N, {CHANNELS}] y)
        <float scale = {{0.03}}, uint8 zero = {{8}}, uint8[256] table = {{{table}}}> {{{body}
        }}"""
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3  # a graph without the table says so
    model = ir.to_proto(ir.from_onnx_text(text)).SerializeToString()
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def main() -> None:
    sessions = {name: session(body) for name, body in GRAPHS.items()}
    for tokens in TOKENS:
        feeds = {"x": np.random.default_rng(0).normal(size=(tokens, CHANNELS)).astype(np.float32)}
        times: dict[str, list[float]] = {name: [] for name in sessions}
        for _ in range(RUNS):
            for name, one in sessions.items():
                began = time.perf_counter()
                one.run(None, feeds)
                times[name].append((time.perf_counter() - began) * 1e3)
        shown = ", ".join(f"{name} {np.median(found):.2f} ms" for name, found in times.items())
        print(f"{tokens} tokens: {shown}")


if __name__ == "__main__":
    main()
