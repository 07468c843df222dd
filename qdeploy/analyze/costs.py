"""What each site costs, measured: the model runs with sites switched to 8 bits one by one.

Leaving one site out, and in, is how Bondarenko et al. 2021 (arXiv 2109.12948, tables 2 and 3) find
what breaks W8A8. Here the measure is the signal to noise ratio of the logits, which needs no labels
and tells sites apart that cost no whole row of a small sample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime as ort

from qdeploy.calibrate.noise import decibels
from qdeploy.calibrate.structure import Site
from qdeploy.onnx_files import GRAPH
from qdeploy.runs import run_session, session_of

Array = npt.NDArray[Any]
Feeds = Mapping[str, Array]
# scale and zero point of a site, scalars or one per channel [C]
Steps = tuple[Any, Any]


@dataclass(frozen=True)
class Cost:
    """Logit SQNR around one site, dB.

    Attributes:
        alone_db: this site alone in 8 bits.
        gain_db: what is gained when it alone stays in float and every other site is in 8 bits.
    """

    alone_db: float
    gain_db: float


class SwitchedModel:
    """The canonical model with a rounding behind every site, off until it is asked for.

    Weights stay FP32: what is measured is the activations' noise. Runs on ONNX Runtime's CPU
    provider, as standard QuantizeLinear and DequantizeLinear.
    """

    def __init__(self, model: ir.Model, sites: Iterable[Site], *, threads: int = 2) -> None:
        self._channels = {site.tensor: site.channels for site in sites}
        options = ort.SessionOptions()
        # a fused node would skip the roundings
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = session_of(_switched(model, self._channels), options)
        own = {name for names in map(_names, range(len(self._channels))) for name in names}
        found = [value.name for value in self._session.get_inputs()]
        self._wanted = [name for name in found if name not in own]

    def logits(self, batches: Sequence[Feeds], rounded: Mapping[str, Steps]) -> list[Array]:
        """First output of each batch with these tensors in 8 bits, FP32 [B, …].

        Logits of padded tokens are zeroed, where each token has its own.
        """
        inputs: dict[str, Array] = {}
        for index, (tensor, channels) in enumerate(self._channels.items()):
            on, scale, zero = _names(index)
            steps, points = rounded.get(tensor, (1.0, 0))
            inputs[on] = np.array(tensor in rounded)
            inputs[scale] = _vector(steps, channels, np.float32)
            inputs[zero] = _vector(points, channels, np.uint8)
        result = []
        for feeds in batches:
            whole = {name: feeds[name] for name in self._wanted} | inputs
            first: Array = run_session(self._session, whole, Path(GRAPH))[0]
            result.append(_without_padding(first, feeds["attention_mask"]))
        return result


def _names(index: int) -> tuple[str, str, str]:
    """Inputs of one site: BOOL [], and FP32 and uint8 [C]."""
    return f"qdeploy_{index}_on", f"qdeploy_{index}_scale", f"qdeploy_{index}_zero_point"


def _vector(value: Any, channels: int, dtype: Any) -> Array:
    """[C], or a scalar where channels mean nothing."""
    shape = () if channels == 1 else (channels,)
    return np.array(np.broadcast_to(np.asarray(value, dtype), shape))


def _without_padding(logits: Array, mask: Array) -> Array:
    if logits.ndim < 3 or logits.shape[:2] != mask.shape:
        return logits
    result: Array = logits * mask[..., None]
    return result


def _switched(model: ir.Model, channels: Mapping[str, int]) -> ir.Model:
    """A copy of the model in which every reader of a site reads it rounded where its switch is on.

    As If nodes, so that a rounding that is off costs no pass over the tensor.
    """
    copy = model.clone()
    graph = copy.graph
    values = {str(v.name): v for node in graph for v in node.outputs}
    for index, (tensor, size) in enumerate(channels.items()):
        value, shape = values[tensor], [] if size == 1 else [size]
        types = (ir.DataType.BOOL, ir.DataType.FLOAT, ir.DataType.UINT8)
        on, scale, zero = (
            ir.Value(name=name, shape=ir.Shape(dims), type=ir.TensorType(dtype))
            for name, dims, dtype in zip(_names(index), ([], shape, shape), types, strict=True)
        )
        graph.inputs.extend([on, scale, zero])
        readers = list(value.uses())
        branches = {
            "then_branch": _branch(index, value, scale, zero),
            "else_branch": _branch(index, value),
        }
        node = ir.node("If", [on], branches, name=f"qdeploy_{index}")
        node.outputs[0].name = f"qdeploy_{index}_out"
        producer = value.producer()
        assert producer is not None
        graph.insert_after(producer, node)
        for use in readers:
            use.node.replace_input_with(use.idx, node.outputs[0])
    return copy


def _branch(
    index: int, value: ir.Value, scale: ir.Value | None = None, zero: ir.Value | None = None
) -> ir.Graph:
    """A tensor rounded, or as it is."""
    if scale is None:
        nodes = [ir.node("Identity", [value], name=f"qdeploy_{index}_float")]
    else:
        axis = {"axis": -1} if len(scale.shape or ()) else {}
        codes = ir.node("QuantizeLinear", [value, scale, zero], axis, name=f"qdeploy_{index}_q")
        codes.outputs[0].name = f"qdeploy_{index}_codes"
        back = [codes.outputs[0], scale, zero]
        nodes = [codes, ir.node("DequantizeLinear", back, axis, name=f"qdeploy_{index}_dq")]
    output = nodes[-1].outputs[0]
    output.name = f"{nodes[-1].name}_out"
    output.type = ir.TensorType(ir.DataType.FLOAT)
    return ir.Graph([], [output], nodes=nodes, name=f"{nodes[-1].name}_branch")


class Costs:
    """Measurements on one sample of rows."""

    def __init__(self, switched: SwitchedModel, batches: Sequence[Feeds]) -> None:
        self._switched = switched
        self._batches = batches
        self._reference = switched.logits(batches, {})

    def sqnr_db(self, rounded: Mapping[str, Steps]) -> float:
        """Logit SQNR with these tensors in 8 bits: 10 · log₁₀(Σ ref² / Σ (ref − other)²)."""
        pairs = list(
            zip(self._reference, self._switched.logits(self._batches, rounded), strict=True)
        )
        signal = sum(float(np.square(a, dtype=np.float64).sum()) for a, _ in pairs)
        noise = sum(float(np.square(a.astype(np.float64) - b).sum()) for a, b in pairs)
        return decibels(noise / max(signal, 1e-30))

    def per_site(
        self, every: Mapping[str, Steps], progress: Callable[[str, int, int], None] | None = None
    ) -> tuple[float, dict[str, Cost]]:
        """The SQNR with every site in 8 bits, and the cost of each, by tensor name."""
        whole = self.sqnr_db(every)
        costs = {}
        for done, tensor in enumerate(every, 1):
            alone = self.sqnr_db({tensor: every[tensor]})
            rest = self.sqnr_db({t: steps for t, steps in every.items() if t != tensor})
            costs[tensor] = Cost(alone, round(rest - whole, 2))
            if progress is not None:
                progress("costs", done, len(every))
        return whole, costs
