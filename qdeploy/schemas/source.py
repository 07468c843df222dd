"""What a manifest says of where a directory was made from."""

from __future__ import annotations

from typing_extensions import NotRequired, TypedDict

from qdeploy.schemas.fields import Positive, Text


class OnnxFile(TypedDict):
    """The ONNX file that a model was made from.

    `precision` is "fp32", or "fp16" where its weights were in half precision; `unfused` are
    operators of ONNX Runtime's optimizer that were written out; `traced` is the one size that the
    file takes, "[1, 128]", where it takes no other.
    """

    file: Text
    opset: Positive
    producer: str
    precision: Text
    unfused: list[str]
    traced: NotRequired[Text]


class Source(TypedDict):
    """Where a directory was made from: a folder, a file, or else what a hub or the package names.

    `onnx` is there where it was an ONNX file, whose digest `sha256` then is. `revision` is the
    commit of a hub.
    """

    path: NotRequired[Text | None]
    id: NotRequired[Text | None]
    sha256: str
    onnx: NotRequired[OnnxFile]
    revision: NotRequired[str | None]
