"""Weights that stand in other files, and files that are none."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto

from tests.deploy.onnx_graphs import PRODUCT, WEIGHT, Make, graph_of

CANARY = b"the canary's own words "


def stored(entries: Sequence[tuple[str, str]], beside: bytes | None = b"") -> Make:
    """The weight w in another file, by these entries; `beside` is what weights.data holds."""

    def make(path: Path, canary: Path, rng: random.Random) -> None:
        model = graph_of([PRODUCT])
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries:
            tensor.external_data.add(key=key, value=value.format(canary=canary))
        if beside is not None:
            (path.parent / "weights.data").write_bytes(beside or WEIGHT.tobytes())
        path.write_bytes(model.SerializeToString())

    return make


def place(location: str, **more: str) -> Make:
    return stored([("location", location), *more.items()])


def linked_folder(path: Path, canary: Path, rng: random.Random) -> None:
    canary.write_bytes(CANARY * 50)
    (path.parent / "sub").symlink_to(canary.parent)
    place("sub/canary")(path, canary, rng)


def linked_device(path: Path, canary: Path, rng: random.Random) -> None:
    (path.parent / "d").symlink_to(rng.choice(("/dev/zero", "/dev/random", "/proc/self/mem")))
    place("d")(path, canary, rng)


def loop_of_links(path: Path, canary: Path, rng: random.Random) -> None:
    (path.parent / "a").symlink_to("b")
    (path.parent / "b").symlink_to("a")
    place(rng.choice(("a", "a/x")))(path, canary, rng)


def model_is(kind: str) -> Make:
    def make(path: Path, canary: Path, rng: random.Random) -> None:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "loop":
            path.symlink_to(path.name)
        else:
            path.symlink_to(kind.format(canary=canary))

    return make


def many_of_one_range(rng: random.Random) -> onnx.ModelProto:
    model = graph_of([PRODUCT])
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="model.onnx")
    for index in range(2000):
        model.graph.initializer.add().CopyFrom(tensor)
        model.graph.initializer[-1].name = f"w{index}"
        model.graph.initializer[-1].dims[:] = [100, 100]
    return model
