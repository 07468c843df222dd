"""The values that fields of the schemas hold, with their bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

Text = Annotated[str, Meta(min_length=1)]
Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Token = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Share = Annotated[float, Meta(ge=0, le=1)]
TimeShare = Annotated[float, Meta(ge=0)]  # kernels that run side by side add up to more than all
Scale = Annotated[float, Meta(gt=0)]
Code = Annotated[int, Meta(ge=0, le=255)]
FileName = Annotated[str, Meta(pattern=r"^(?!/)(?!(.*/)?\.\.(/|$))[^\\\x00]+$")]  # stays inside
Shape = Annotated[list[Positive], Meta(min_length=2, max_length=2)]  # rows, tokens
PairOfTexts = Annotated[list[str], Meta(min_length=2, max_length=2)]
TaskName = Literal[
    "sequence-classification", "token-classification", "question-answering", "sentence-embedding"
]
Precision = Literal["int8", "fp8", "float"]
