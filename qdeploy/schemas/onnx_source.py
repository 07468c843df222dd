"""What a manifest says of an ONNX file that a model was made from."""

from __future__ import annotations

from typing_extensions import TypedDict

from qdeploy.schemas.fields import Positive, Text


class OnnxFile(TypedDict):
    """The ONNX file that a model was made from.

    `precision` is "fp32", or "fp16" where its weights were in half precision; `unfused` are
    operators of ONNX Runtime's optimizer that were written out.
    """

    file: Text
    opset: Positive
    producer: str
    precision: Text
    unfused: list[str]
