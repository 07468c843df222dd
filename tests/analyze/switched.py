"""The reference for `analyze`: the whole model, with a rounding in the graph behind every site.

It runs from the first node to the last for every set of roundings, with graph optimization off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from qdeploy.analyze.rounding import Rounding
from qdeploy.graph.structure import Structure


def sqnr_db(reference: Sequence[Any], found: Sequence[Any]) -> float:
    """10 · log₁₀(Σ (ref − mean)² / Σ (ref − found)²)."""
    every = np.concatenate(reference).astype(np.float64)
    signal = float(np.square(every - every.mean()).sum())
    noise = sum(
        float(np.square(a.astype(np.float64) - b).sum())
        for a, b in zip(reference, found, strict=True)
    )
    return 10 * float(np.log10(signal / max(noise, 1e-30)))


def whole_run(
    model: ir.Model,
    structure: Structure,
    batches: Sequence[Mapping[str, Any]],
    rounded: Mapping[str, Rounding],
    folder: Path,
    *,
    everywhere: bool,
) -> list[Any]:
    """First output of each batch with QuantizeLinear and DequantizeLinear behind some tensors.

    Args:
        rounded: by tensor name; channels that stay exact are not of this reference.
        everywhere: every reader reads the rounded tensor, not the GEMMs alone.
    """
    copy = model.clone()
    values = {str(v.name): v for node in copy.graph for v in node.outputs}
    for tensor, rounding in rounded.items():
        assert not rounding.exact
        gemms = {gemm.node for gemm in structure.consumers(tensor)}
        _round_behind(copy.graph, values[tensor], rounding, None if everywhere else gemms)
    path = folder / "whole.onnx"
    ir.save(copy, path)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return [session.run(None, {n: feeds[n] for n in names})[0] for feeds in batches]


def _round_behind(
    graph: ir.Graph, value: ir.Value, rounding: Rounding, readers: set[str] | None
) -> None:
    uses = [use for use in value.uses() if readers is None or use.node.name in readers]
    constants = [
        ir.Value(name=f"{value.name}_{what}", const_value=ir.tensor(array))
        for what, array in (
            ("scale", np.asarray(rounding.scale, np.float32)),
            ("zero", np.asarray(rounding.zero_point).astype(np.uint8)),
        )
    ]
    for constant in constants:
        graph.register_initializer(constant)
    axis = {"axis": -1} if rounding.scale.ndim else {}
    codes = ir.node("QuantizeLinear", [value, *constants], axis, name=f"{value.name}_q")
    codes.outputs[0].name = f"{value.name}_codes"
    back = ir.node("DequantizeLinear", [codes.outputs[0], *constants], axis, name=f"{value.name}_d")
    back.outputs[0].name = f"{value.name}_rounded"
    producer = value.producer()
    assert producer is not None
    graph.insert_after(producer, [codes, back])
    for use in uses:
        use.node.replace_input_with(use.idx, back.outputs[0])
