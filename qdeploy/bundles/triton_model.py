"""Answers of the engine beside this file, in the Python backend of NVIDIA Triton.

The input `text` has a text in each row, `text_pair` the second ones of pairs; config.pbtxt names
the outputs. Requests that Triton batches run together: predict.py pads rows of similar length, and
opens the engine as it was measured. `qdeploy bundle` wrote this file; it needs no qdeploy.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as triton
from predict import Model  # the engine's own script


class TritonPythonModel:
    """One engine, and its outputs as config.pbtxt names them."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the engine.

        Args:
            args: of Triton, `model_config` among them: config.pbtxt as JSON.
        """
        config = json.loads(args["model_config"])
        self.outputs = {
            output["name"]: output["data_type"] == "TYPE_STRING" for output in config["output"]
        }
        self.model = Model(int(config["parameters"]["threads"]["string_value"]) or None)

    def execute(self, requests: list[Any]) -> list[Any]:
        """A response to each request; of a batch that fails, the requests run one by one."""
        try:
            return self.together(requests)
        except (Exception, SystemExit):  # predict.py exits, and says why
            return [self.alone(request) for request in requests]

    def alone(self, request: Any) -> Any:
        """The response to one request, which may be an error."""
        try:
            return self.together([request])[0]
        except (Exception, SystemExit) as error:
            return triton.InferenceResponse(error=triton.TritonError(str(error)))

    def together(self, requests: list[Any]) -> list[Any]:
        """Responses to requests whose rows run in the same batches."""
        asked = [rows_of(request) for request in requests]
        answers = self.model.answers([row for rows in asked for row in rows])
        responses = []
        for rows in asked:
            own, answers = answers[: len(rows)], answers[len(rows) :]
            tensors = [
                triton.Tensor(name, (texts if is_text else numbers)([row[name] for row in own]))
                for name, is_text in self.outputs.items()
            ]
            responses.append(triton.InferenceResponse(output_tensors=tensors))
        return responses


def rows_of(request: Any) -> list[tuple[str, ...]]:
    """The rows of a request: (text,) or (text, text_pair)."""
    tensors = [triton.get_input_tensor_by_name(request, name) for name in ("text", "text_pair")]
    columns = [
        [value.decode() for value in tensor.as_numpy().reshape(-1)]
        for tensor in tensors
        if tensor is not None
    ]
    return list(zip(*columns, strict=True))


def texts(values: list[Any]) -> np.ndarray:
    """Bytes [rows, 1]: texts as they are, all else as JSON."""
    found = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return np.array([[text.encode()] for text in found], dtype=object)


def numbers(values: list[Any]) -> np.ndarray:
    """Float32 [rows, n]: a number, a list, or the scores of the classes in the model's order."""
    rows = [list(value.values()) if isinstance(value, dict) else value for value in values]
    return np.array(rows, np.float32).reshape(len(rows), -1)
