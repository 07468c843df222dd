"""The two files of a comparison: found, looked into, and held against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qdeploy.against.home import last_axis
from qdeploy.deploy.foreign import look
from qdeploy.errors import ModelError
from qdeploy.onnx_file.check import GRAPH, check_file
from qdeploy.schemas.inspection import InspectedFile

# Operators of files that store weights in few bits and multiply in float.
_ROUNDED = ("MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "DequantizeLinear")
_FIELDS = {"input_ids", "attention_mask", "token_type_ids"}  # what rows of text can give


@dataclass(frozen=True)
class Pair:
    """A quantized file, its FP32 file, and what a look into each said."""

    file: Path
    against: Path
    found: InspectedFile
    exact: InspectedFile


def find_pair(path: Path, against: Path) -> Pair:
    """Look into both files.

    Args:
        path, against: .onnx files, or model or engine directories with one.

    Raises:
        ModelError: no such files, or files that are not of one model.
    """
    file, base = _graph_of(path, "QUANTIZED"), _graph_of(against, "--against")
    if file.resolve() == base.resolve():
        raise ModelError(f"{path} would be held against itself. Name its FP32 file with --against.")
    pair = Pair(file, base, look(file, None), look(base, None))
    _check_order(pair)
    _check_sizes(pair)
    _check_same_model(pair)
    return pair


def size_mb(path: Path) -> float:
    """Bytes of a file and of its weights beside it, in MB of 10⁶ bytes."""
    return check_file(path) / 1e6


def _graph_of(path: Path, what: str) -> Path:
    if path.is_dir():
        places = [path / GRAPH, path / "onnx" / GRAPH]  # of a model directory, or of the hub's
        path = next((place for place in places if place.is_file()), places[0])
        if not path.is_file():
            raise ModelError(f"{path} is missing. Name an .onnx file, or a directory with one.")
    if not path.is_file():
        raise ModelError(f"{path} is no file. Name an .onnx file as {what}.")
    return path


def _check_order(pair: Pair) -> None:
    """Refuse an FP32 file that is quantized itself."""
    planned = pair.exact["int8"]["planned"]
    if not planned:
        _check_float(pair)
        return
    text = f"{pair.against} is quantized itself: {planned} of its products are INT8"
    if not pair.found["int8"]["planned"]:
        raise ModelError(
            f"{text}, and none of {pair.file}. The two are swapped: name the quantized file first, "
            "and the FP32 file with --against."
        )
    raise ModelError(f"{text}. Name the FP32 file that {pair.file} was made from with --against.")


def _check_float(pair: Pair) -> None:
    """Refuse an FP32 file whose weights are rounded, though its products run in float."""
    found = pair.exact["operators"]
    kind = next((kind for kind in _ROUNDED if kind in found), None)
    if kind is not None:
        raise ModelError(
            f"{pair.against} is quantized itself: it has {found[kind]} {kind} nodes, whose weights "
            f"are rounded. Name the FP32 file that {pair.file} was made from with --against."
        )


def _check_sizes(pair: Pair) -> None:
    """Refuse files of one size: rows of text have several.

    Raises:
        ModelError: with the size.
    """
    for path, look_at in ((pair.file, pair.found), (pair.against, pair.exact)):
        shape = look_at["inputs"].get("input_ids", "")
        if any(word.strip().isdigit() for word in shape.strip("[]").split(",")):
            raise ModelError(
                f"{path} takes batches of {shape} alone, and rows of text have other sizes. Export "
                "the model again with dynamic axes for batch and sequence, and quantize that file."
            )


def _check_same_model(pair: Pair) -> None:
    """Refuse files with other inputs, outputs, tables or numbers of classes, all said at once.

    Raises:
        ModelError: with every difference.
    """
    own, exact = pair.found, pair.exact
    faults = []
    for what, one, other in (
        ("takes", own["inputs"], exact["inputs"]),
        ("gives", own["outputs"], exact["outputs"]),
    ):
        if set(one) != set(other):
            faults.append(f"{what} {', '.join(one)} and not {', '.join(other)}")
    rows = own["vocabulary"], exact["vocabulary"]
    if None not in rows and rows[0] != rows[1]:
        faults.append(f"embeds {rows[0]} tokens and not {rows[1]}")
    for name in own["outputs"]:
        sizes = last_axis(own["outputs"][name]), last_axis(exact["outputs"].get(name, ""))
        if None not in sizes and sizes[0] != sizes[1]:
            faults.append(f"gives {sizes[0]} numbers as {name} and not {sizes[1]}")
    if faults:
        raise ModelError(
            f"{pair.file} is not of the model of {pair.against}: it {'; it '.join(faults)}. Name "
            "the FP32 file that it was made from with --against."
        )
    if unknown := sorted(set(own["inputs"]) - _FIELDS):
        raise ModelError(
            f"{pair.file} takes {', '.join(unknown)}, and rows of text give "
            f"{', '.join(sorted(_FIELDS))} only. Export the model without it."
        )
