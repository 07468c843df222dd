"""What a model of Triton's Python backend sees of Triton, over numpy: tensors and requests.

After the README of triton-inference-server/python_backend: texts arrive as bytes in arrays of
objects, and tensors are made of arrays of the type that config.pbtxt names.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qdeploy.types import Array


class Tensor:
    """A named array."""

    def __init__(self, name: str, array: Array) -> None:
        if not isinstance(array, np.ndarray):
            raise TypeError("Tensor type is not supported: a numpy array was expected")
        self._name, self._array = name, array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Array:
        return self._array


class TritonError(Exception):
    """An error that a response holds."""

    def message(self) -> str:
        return str(self.args[0])


@dataclass
class InferenceRequest:
    """Inputs of one request."""

    inputs: list[Tensor]


@dataclass
class InferenceResponse:
    """Outputs of one request, or its error."""

    output_tensors: list[Tensor] = field(default_factory=list)
    error: TritonError | None = None


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    return next((tensor for tensor in request.inputs if tensor.name() == name), None)


def request_of(*columns: list[str]) -> InferenceRequest:
    """Rows of texts, or of pairs; each column is an input of [rows, 1]."""
    arrays = [np.array([[text.encode()] for text in column], object) for column in columns]
    names = ("text", "text_pair")
    return InferenceRequest([Tensor(*pair) for pair in zip(names, arrays, strict=False)])


def model_config(path: Path) -> dict[str, Any]:
    """What of a config.pbtxt `initialize` reads, as Triton hands it on."""
    text = path.read_text("utf-8")
    outputs = re.findall(
        r'^output \[ \{ name: "(\w+)" data_type: (\w+) dims: \[(.*?)\]', text, re.M
    )
    parameters = re.findall(r'key: "(\w+)" value \{ string_value: "(\w+)" \}', text)
    return {
        "output": [
            {"name": name, "data_type": dtype, "dims": json.loads(f"[{dims}]")}
            for name, dtype, dims in outputs
        ],
        "parameters": {key: {"string_value": value} for key, value in parameters},
    }
