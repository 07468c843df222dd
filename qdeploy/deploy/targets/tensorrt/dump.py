"""The list of layers that the builder logs of a finished engine, as the engine inspector's JSON.

The inspector itself needs a device. A builder with detailed verbosity tells the same of every layer
in one message, a line each:

    Name: N, LayerType: T, Inputs: [ { Name: …, Dimensions: [-1,384], Strides: [384,1], … }],
    Constants: […], Outputs: […], TacticName: K, StreamId: 0, Metadata: [ONNX Layer: …]…

(TensorRT-RTX 1.7; dimensions that the run decides are −1.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from typing_extensions import TypedDict

from qdeploy.errors import TargetError

_LINE = re.compile(
    r"Name: (?P<name>.*), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*)\], "
    r"Constants: \[(?P<constants>.*)\], Outputs: \[(?P<outputs>.*)\], "
    r"TacticName: (?P<tactic>.*), StreamId: \d+(, \w+: [^,]*)*?, Metadata:(?P<nodes>.*)"
)
_TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<dims>[-\d,]*)\], "
    r"Strides: \[(?P<strides>[-\d,]*)\], StrideOrder: \[[\d,]*\], "
    r"Datatype: (?P<type>\w+), Format: (?P<format>[^}]*?) ?\}"
)


# Layers that launch nothing: sizes of shapes, order of streams, jumps between branches.
IDLE = ("shape_call", "signal", "wait", "jmp", "cjmp")


class Tensor(TypedDict):
    """A tensor of a layer, with the inspector's names."""

    Name: str
    Dimensions: list[int]
    Strides: list[int]
    Datatype: str
    Format: str


class Entry(TypedDict):
    """A layer, with the inspector's names."""

    Name: str
    LayerType: str
    Inputs: list[Tensor]
    Constants: list[Tensor]
    Outputs: list[Tensor]
    TacticName: str
    Metadata: str


def layers_json(dump: str, title: str) -> str:
    """The layers of an engine, JSON.

    Args:
        dump: the builder's message.
        title: of the builder, for the text.

    Raises:
        TargetError: it lists no layers in the form that is known here.
    """
    # Metadata end in the nodes' names, and names may hold anything: a line that begins no layer
    # belongs to the one before.
    found: list[Entry] = []
    for line in dump.split("I/O Tensors:")[0].splitlines()[1:]:
        if line.startswith("Name: "):
            found.append(_entry(line, title))
        elif line and found:
            found[-1]["Metadata"] += f"\n{line}"
    if not found:
        raise TargetError(f"{title} did not list the layers of its engine: nothing can be proved.")
    return json.dumps({"Layers": found}, indent=1)


def _entry(line: str, title: str) -> Entry:
    match = _LINE.fullmatch(line)
    if match is None:
        raise TargetError(
            f"{title} lists layers in a form that is not known here ({line[:80]}…). Use the "
            "version that constraints.txt names."
        )
    return {
        "Name": match["name"],
        "LayerType": match["kind"],
        "Inputs": _tensors(match["inputs"]),
        "Constants": _tensors(match["constants"]),
        "Outputs": _tensors(match["outputs"]),
        "TacticName": match["tactic"],
        "Metadata": match["nodes"].strip(),
    }


def _tensors(text: str) -> list[Tensor]:
    return [
        {
            "Name": match["name"],
            "Dimensions": _numbers(match["dims"]),
            "Strides": _numbers(match["strides"]),
            "Datatype": match["type"],
            "Format": match["format"],
        }
        for match in _TENSOR.finditer(text)
    ]


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def kernels_of(entries: Sequence[Entry]) -> int:
    """How many of the layers launch a kernel: all but waits, signals and the sizes of shapes."""
    return sum(entry["LayerType"] not in IDLE for entry in entries)
