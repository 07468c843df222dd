"""What is used of OpenVINO's Python classes, which carry no types that a checker would read.

Named as OpenVINO names them; methods and attributes are those of its API 2.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from qdeploy.types import Array


class OVAny(Protocol):
    """A value of any type, of a runtime model's facts."""

    def astype(self, kind: type[str]) -> str: ...


class ElementType(Protocol):
    """Of a tensor; `u8`, `f32`."""

    def get_type_name(self) -> str: ...


class Node(Protocol):
    """An operation of a graph; in a runtime model a kernel or a constant."""

    def get_input_element_type(self, index: int) -> ElementType: ...
    def get_input_size(self) -> int: ...

    def get_friendly_name(self) -> str: ...
    def get_rt_info(self) -> Mapping[str, OVAny]: ...
    def outputs(self) -> Sequence[Output]: ...


class Input(Protocol):
    """A place where an operation reads."""

    def get_node(self) -> Node: ...


class Output(Protocol):
    """A tensor of a graph."""

    def get_any_name(self) -> str: ...
    def get_target_inputs(self) -> Sequence[Input]: ...


class ProfilingInfo(Protocol):
    """One kernel of the last run."""

    node_name: str
    exec_type: str
    real_time: timedelta


class InferRequest(Protocol):
    """One run at a time of a compiled model, with memory of its own."""

    def infer(self, inputs: Mapping[str, Array]) -> Mapping[Output, Array]: ...
    def get_profiling_info(self) -> Sequence[ProfilingInfo]: ...


class Model(Protocol):
    """A graph."""

    def get_ordered_ops(self) -> Sequence[Node]: ...


class CompiledModel(Protocol):
    """A graph that was compiled for a device."""

    inputs: Sequence[Output]
    outputs: Sequence[Output]

    def create_infer_request(self) -> InferRequest: ...
    def get_runtime_model(self) -> Model: ...
