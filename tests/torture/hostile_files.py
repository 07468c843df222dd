"""ONNX files that want to read elsewhere, hang, crash or fill the memory of who looks at them."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CANARY = b"the canary's own words "
X = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 8])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)


def _weights(rng: random.Random, name: str = "w") -> onnx.TensorProto:
    values = np.random.default_rng(rng.randrange(2**32)).normal(size=(8, 4))
    return numpy_helper.from_array(values.astype(np.float32), name)


def _graph(nodes: list[Any], initializers: list[Any], **more: Any) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", [X], [Y], initializers)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **more)


def _plain(rng: random.Random) -> onnx.ModelProto:
    return _graph([helper.make_node("MatMul", ["x", "w"], ["y"])], [_weights(rng)])


def _external(
    location: str, length: int = 128, offset: int = 0, beside: str = ""
) -> Callable[..., None]:
    """Weights elsewhere.

    Args:
        location: as the file says it; {canary} is the path of the file outside.
        beside: what stands beside the model as `weights.data`.
    """

    def make(path: Path, canary: Path, rng: random.Random) -> None:
        model = _plain(rng)
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        place = location.format(canary=canary)
        for key, value in (("location", place), ("offset", offset), ("length", length)):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, str(value)
        weights = path.parent / "weights.data"
        if beside == "link":
            weights.symlink_to(canary)
        elif beside == "link to a link":
            weights.symlink_to("other.data")
            (path.parent / "other.data").symlink_to(f"../{canary.name}")
        elif beside == "hard link":
            os.link(canary, weights)
        elif beside == "FIFO":
            os.mkfifo(weights)
        elif beside == "folder":
            weights.mkdir()
        elif beside == "device":
            weights.symlink_to("/dev/zero")
        elif beside == "short":
            weights.write_bytes(b"x")
        path.write_bytes(model.SerializeToString())

    return make


def _cycle(path: Path, canary: Path, rng: random.Random) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    nodes.append(helper.make_node("MatMul", ["b", "w"], ["y"]))
    path.write_bytes(_graph(nodes, [_weights(rng)]).SerializeToString())


def _missing(path: Path, canary: Path, rng: random.Random) -> None:
    node = helper.make_node("MatMul", ["x", "nowhere"], ["y"])
    path.write_bytes(_graph([node], []).SerializeToString())


def _dims(path: Path, canary: Path, rng: random.Random) -> None:
    model = _plain(rng)
    dims = rng.choice(([2**62, 4], [2**31, 2**31], [-1, 4], [0, 2**62], [2**40, 4]))
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend(dims)
    path.write_bytes(model.SerializeToString())


def _huge(path: Path, canary: Path, rng: random.Random) -> None:
    shape = numpy_helper.from_array(np.array([2 ** rng.choice((36, 40, 50)), 8]), "s")
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["y"]),
    ]
    path.write_bytes(_graph(nodes, [shape, _weights(rng)]).SerializeToString())


def _expand(path: Path, canary: Path, rng: random.Random) -> None:
    shape = numpy_helper.from_array(np.array([2**38, 2, 8]), "s")
    nodes = [
        helper.make_node("Expand", ["x", "s"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["y"]),
    ]
    path.write_bytes(_graph(nodes, [shape, _weights(rng)]).SerializeToString())


def _deep(path: Path, canary: Path, rng: random.Random) -> None:
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    node = helper.make_node("Identity", ["x"], ["o"])
    for _ in range(rng.choice((50, 200, 900))):
        branch = helper.make_graph([node], "b", [], [out])
        node = helper.make_node("If", ["t"], ["o"], then_branch=branch, else_branch=branch)
        if len(branch.SerializeToString()) > 1 << 20:
            break
    node.output[0] = "y"
    true = numpy_helper.from_array(np.array(True), "t")
    try:
        content = _graph([node], [true]).SerializeToString()
    except (RecursionError, ValueError):  # protobuf's own bound
        content = b"\x08\x0a:" + bytes(1000)
    path.write_bytes(content)


def _loop(path: Path, canary: Path, rng: random.Random) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["c"], ["c2"]),
            helper.make_node("MatMul", ["v", "sq"], ["v2"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("c2", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v2", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(np.eye(8, dtype=np.float32), "sq")],
    )
    trips = numpy_helper.from_array(np.array(2 ** rng.choice((40, 62))), "n")
    node = helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)
    path.write_bytes(_graph([node], [trips]).SerializeToString())


def _strings(path: Path, canary: Path, rng: random.Random) -> None:
    model = _plain(rng)
    tensor = numpy_helper.from_array(np.full((8, 4), b"x", object), "w")
    model.graph.initializer[0].CopyFrom(tensor)
    path.write_bytes(model.SerializeToString())


def _itself(path: Path, canary: Path, rng: random.Random) -> None:
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    node = helper.make_node("F", ["a"], ["b"], domain="local")
    function = helper.make_function("local", "F", ["a"], ["b"], [node], opsets)
    call = helper.make_node("F", ["x"], ["y"], domain="local")
    path.write_bytes(_graph([call], [], functions=[function]).SerializeToString())


def _unknown(path: Path, canary: Path, rng: random.Random) -> None:
    node = helper.make_node("Evil", ["x"], ["y"], domain=rng.choice(("", "evil", "local")))
    path.write_bytes(_graph([node], []).SerializeToString())


def _cut(path: Path, canary: Path, rng: random.Random) -> None:
    content = _plain(rng).SerializeToString()
    path.write_bytes(content[: rng.randrange(len(content))])


def _flipped(path: Path, canary: Path, rng: random.Random) -> None:
    content = bytearray(_plain(rng).SerializeToString())
    for _ in range(rng.choice((1, 4, 16))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _no_onnx(path: Path, canary: Path, rng: random.Random) -> None:
    path.write_bytes(rng.choice((b"", b"hello", bytes(4096), b"PK\x03\x04", b"\x0a" * 65536)))


def _no_file(path: Path, canary: Path, rng: random.Random) -> None:
    kind = rng.choice(("fifo", "folder", "link", "device"))
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.symlink_to("nowhere")


def _sizes(path: Path, canary: Path, rng: random.Random) -> None:
    model = _plain(rng)
    model.graph.initializer[0].raw_data = bytes(rng.choice((0, 1, 127, 129, 4096)))
    path.write_bytes(model.SerializeToString())


KINDS: dict[str, Callable[[Path, Path, random.Random], None]] = {
    "external ..": _external("../canary"),
    "external absolute": _external("{canary}"),
    "external a/../..": _external("a/../../canary"),
    "external link": _external("weights.data", beside="link"),
    "external link to a link": _external("weights.data", beside="link to a link"),
    "external hard link": _external("weights.data", beside="hard link"),
    "external FIFO": _external("weights.data", beside="FIFO"),
    "external folder": _external("weights.data", beside="folder"),
    "external device": _external("weights.data", beside="device"),
    "external short": _external("weights.data", beside="short"),
    "external missing": _external("weights.data"),
    "external /proc": _external("/proc/self/environ"),
    "external too long": _external("model.onnx", 10**12),
    "external negative": _external("model.onnx", 128, -5),
    "external empty": _external(""),
    "cycle": _cycle,
    "missing initializer": _missing,
    "dims": _dims,
    "huge constant": _huge,
    "huge expand": _expand,
    "deep If": _deep,
    "endless Loop": _loop,
    "strings": _strings,
    "function that calls itself": _itself,
    "unknown operator": _unknown,
    "cut": _cut,
    "flipped bits": _flipped,
    "no ONNX": _no_onnx,
    "no file": _no_file,
    "sizes": _sizes,
}
# These name something that is not in the directory: no answer is right.
OUTSIDE = (
    *("external ..", "external absolute", "external a/../..", "external /proc"),
    *("external link", "external link to a link", "external hard link", "external device"),
)


def hostile_files(folder: Path, seed: int, count: int) -> Iterator[tuple[str, Path]]:
    """`count` files, each in a folder of its own, with a canary outside that one.

    Yields:
        The name of its kind, and where the file stands (or what stands there instead).
    """
    rng, kinds = random.Random(seed), list(KINDS)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        inside = folder / str(number) / "inside"
        inside.mkdir(parents=True)
        canary = inside.parent / "canary"
        canary.write_bytes(CANARY * 50)
        KINDS[kind](inside / "model.onnx", canary, rng)
        yield kind, inside / "model.onnx"
