"""ONNX files that nobody means well with, made from a seed; some are legal all the same.

`KINDS` of `tests.torture.hostile` are the well-known ones; here stand more, and the ways around the
rules of `qdeploy.onnx_file.rules`: what is computed, what comes from an attribute, what is only
large.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.torture.hostile import KINDS as KNOWN
from tests.torture.hostile import OUTSIDE as READS_OUTSIDE

Make = Callable[[Path, Path, random.Random], None]
CANARY = b"the canary's own words "
_X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", "s", 8])
_Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
_OPSETS = [helper.make_opsetid(*pair) for pair in (("", 20), ("com.microsoft", 1), ("local", 1))]
_WEIGHT = np.ones((8, 8), np.float32)


def hostile_files(folder: Path, seed: int, count: int) -> Iterator[tuple[str, Path]]:
    """`count` files, each in a folder of its own, with a canary outside that one.

    Yields:
        The name of its kind, and where the file stands (or what stands there instead).
    """
    rng = random.Random(seed)
    names = list(KINDS)
    for number in range(count):
        name = names[number % len(names)]
        inside = folder / str(number) / "inside"
        inside.mkdir(parents=True)
        (inside.parent / "canary").write_bytes(CANARY * 50)
        KINDS[name](inside / "model.onnx", inside.parent / "canary", rng)
        yield name, inside / "model.onnx"


def graph_of(
    nodes: Iterable[onnx.NodeProto],
    constants: dict[str, Any] | None = None,
    inputs: Sequence[onnx.ValueInfoProto] = (_X,),
    **more: Any,
) -> onnx.ModelProto:
    """A model with the input x, the output y, and the weight w."""
    known = {"w": _WEIGHT} | (constants or {})
    stored = [numpy_helper.from_array(np.asarray(a), name) for name, a in known.items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), [_Y], stored)
    return helper.make_model(graph, **({"opset_imports": _OPSETS, "ir_version": 10} | more))


node = helper.make_node
_PRODUCT = node("MatMul", ["x", "w"], ["y"], "gemm")


def _of(build: Callable[[random.Random], onnx.ModelProto | bytes]) -> Make:
    def make(path: Path, canary: Path, rng: random.Random) -> None:
        made = build(rng)
        path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())

    return make


def _int(*values: int) -> Any:
    return np.array(values, np.int64)


# --- weights in other files --------------------------------------------------------------------


def _stored(entries: Sequence[tuple[str, str]], beside: bytes | None = b"") -> Make:
    """The weight w in another file, by these entries; `beside` is what weights.data holds."""

    def make(path: Path, canary: Path, rng: random.Random) -> None:
        model = graph_of([_PRODUCT])
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries:
            tensor.external_data.add(key=key, value=value.format(canary=canary))
        if beside is not None:
            (path.parent / "weights.data").write_bytes(beside or _WEIGHT.tobytes())
        path.write_bytes(model.SerializeToString())

    return make


def _place(location: str, **more: str) -> Make:
    return _stored([("location", location), *more.items()])


def _linked_folder(path: Path, canary: Path, rng: random.Random) -> None:
    canary.write_bytes(CANARY * 50)
    (path.parent / "sub").symlink_to(canary.parent)
    _place("sub/canary")(path, canary, rng)


def _linked_device(path: Path, canary: Path, rng: random.Random) -> None:
    (path.parent / "d").symlink_to(rng.choice(("/dev/zero", "/dev/random", "/proc/self/mem")))
    _place("d")(path, canary, rng)


def _loop_of_links(path: Path, canary: Path, rng: random.Random) -> None:
    (path.parent / "a").symlink_to("b")
    (path.parent / "b").symlink_to("a")
    _place(rng.choice(("a", "a/x")))(path, canary, rng)


def _model_is(kind: str) -> Make:
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


def _many_of_one_range(rng: random.Random) -> onnx.ModelProto:
    model = graph_of([_PRODUCT])
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="model.onnx")
    for index in range(2000):
        model.graph.initializer.add().CopyFrom(tensor)
        model.graph.initializer[-1].name = f"w{index}"
        model.graph.initializer[-1].dims[:] = [100, 100]
    return model


# --- shapes and sizes ---------------------------------------------------------------------------


def _into_product(made: Sequence[onnx.NodeProto], constants: dict[str, Any]) -> onnx.ModelProto:
    """`made` ends in c, which is added to x."""
    last = [node("ReduceMax", ["c"], ["m"], keepdims=0), node("Add", ["x", "m"], ["a"])]
    return graph_of([*made, *last, node("MatMul", ["a", "w"], ["y"], "gemm")], constants)


def _computed_shape(rng: random.Random) -> onnx.ModelProto:
    """Where no rule sees it: the shape is a product of small numbers."""
    size = 2 ** rng.choice((10, 16, 20))
    made = [
        node("Mul", ["half", "half"], ["shape"]),
        rng.choice(
            (
                node("ConstantOfShape", ["shape"], ["c"]),
                node("Expand", ["one", "shape"], ["c"]),
                node("Tile", ["one3", "shape"], ["c"]),
            )
        ),
    ]
    constants = {"half": _int(size, size, 1), "one": np.ones(1, np.float32)}
    return _into_product(made, constants | {"one3": np.ones((1, 1, 1), np.float32)})


def _doubled(rng: random.Random) -> onnx.ModelProto:
    made = [node("Concat", ["c0", "c0"], ["c1"], axis=0)]
    steps = rng.choice((30, 36, 60))
    made += [node("Concat", [f"c{i}"] * 2, [f"c{i + 1}"], axis=0) for i in range(1, steps)]
    made.append(node("Identity", [f"c{steps}"], ["c"]))
    return _into_product(made, {"c0": np.ones(8, np.float32)})


def _made(rng: random.Random) -> onnx.ModelProto:
    """One node whose inputs say how much it makes."""
    ends = {"a": np.array(0), "b": np.array(2**40), "one": np.array(1)}
    forms: list[tuple[onnx.NodeProto, dict[str, Any]]] = [
        (node("Range", ["a", "b", "one"], ["c"]), ends),
        (node("Pad", ["w", "p"], ["c"]), {"p": _int(2**40, 0, 0, 0)}),
        (node("Resize", ["w", "", "f"], ["c"]), {"f": np.array([1e6, 1e6], np.float32)}),
        (node("RandomNormal", [], ["c"], shape=[2**40]), {}),
        (node("RandomUniform", [], ["c"], shape=[2**20, 2**20]), {}),
        (node("Tile", ["w", "p"], ["c"]), {"p": _int(2**30, 2**10)}),
    ]
    form, constants = rng.choice(forms)
    return _into_product([form], constants)


def _large_products(rng: random.Random) -> onnx.ModelProto:
    """Constant folding computes these for minutes."""
    size = 4096
    made = [node("Expand", ["one", "shape"], ["c0"])]
    made += [node("MatMul", [f"c{i}", f"c{i}"], [f"c{i + 1}"]) for i in range(200)]
    made.append(node("Identity", ["c200"], ["c"]))
    return _into_product(made, {"one": np.ones((1, 1), np.float32), "shape": _int(size, size)})


def _input_of(*shape: int | str) -> Make:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    return _of(lambda rng: graph_of([node("Relu", ["x"], ["y"])], inputs=[value]))


def _diamond(rng: random.Random) -> onnx.ModelProto:
    """2^n ways from the weight to the product."""
    made = [node("Add", ["w", "w"], ["c1"])]
    made += [node("Add", [f"c{i}"] * 2, [f"c{i + 1}"]) for i in range(1, rng.choice((60, 900)))]
    return graph_of([*made, node("MatMul", ["x", made[-1].output[0]], ["y"], "gemm")])


def _chain(rng: random.Random) -> onnx.ModelProto:
    steps = rng.choice((5_000, 20_000))
    operator = rng.choice(("Identity", "Neg", "Transpose"))
    made = [node(operator, ["w"], ["c1"])]
    made += [node(operator, [f"c{i}"], [f"c{i + 1}"]) for i in range(1, steps)]
    return graph_of([*made, node("MatMul", ["x", f"c{steps}"], ["y"], "gemm")])


def _wire(number: int, content: bytes) -> bytes:
    """A field of protobuf that holds bytes."""
    size, head = len(content), bytearray([(number << 3) | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes([*head, size]) + content


def _nested(numbers: Sequence[int], content: bytes) -> bytes:
    for number in reversed(numbers):
        content = _wire(number, content)
    return content


def _bomb(rng: random.Random) -> bytes:
    """Two bytes of the file are an object of a hundred in memory."""
    many = rng.choice((2_000_000, 4_000_000))
    empty = {
        "nodes": lambda: _wire(7, _wire(1, b"") * many),
        "tensors": lambda: _wire(7, _wire(5, b"") * many),
        "values": lambda: _wire(7, _wire(13, b"") * many),
        "attributes": lambda: _wire(7, _wire(1, _wire(5, b"") * many)),
        "properties": lambda: _wire(14, b"") * many,
        "dimensions": lambda: _wire(
            7, _wire(11, _wire(2, _wire(1, _wire(2, _wire(1, b"") * many))))
        ),
        "functions": lambda: _wire(25, b"") * many,
        "dims": lambda: _wire(7, _wire(5, b"\x08\x01" * many)),
        "strings": lambda: _wire(7, _wire(5, _wire(6, b"") * many)),
    }
    return empty[rng.choice(list(empty))]()


def _damaged(rng: random.Random) -> bytes:
    return rng.choice(
        (
            rng.randbytes(rng.choice((1, 10, 1000, 100_000))),
            b"\x3b" + bytes(50),  # a group, which nothing writes
            b"\x3a" + b"\xff" * 20,  # a length without end
            b"\x3a\xff\xff\xff\xff\x0f" + bytes(100),  # a length of 4 GB
            b"\x08" + b"\x80" * 9 + b"\x01",
            _wire(7, _wire(1, _wire(5, _wire(6, b"")) * 3)),
            b"<html><body>404</body></html>",
            b'ir_version: 8\ngraph { name: "g" }\n',
            b'{"irVersion": "8", "graph": {}}',
            b"\x1f\x8b\x08" + bytes(500),
            b"ORTM" + bytes(500),
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            _wire(20, b"") + graph_of([_PRODUCT]).SerializeToString(),
            graph_of([_PRODUCT]).SerializeToString() * 3,
        )
    )


# --- bodies and functions ------------------------------------------------------------------------


def _body(nodes: Sequence[onnx.NodeProto]) -> onnx.GraphProto:
    """Of a loop with one state: i0 to i2 go in (pass, condition, state), go and v come out."""
    kinds: tuple[tuple[int, list[int] | None], ...] = (
        (TensorProto.INT64, []),
        (TensorProto.BOOL, []),
        (TensorProto.FLOAT, None),
    )
    given = [helper.make_tensor_value_info(f"i{at}", *kind) for at, kind in enumerate(kinds)]
    made = [helper.make_tensor_value_info("go", *kinds[1])]
    made.append(helper.make_tensor_value_info("v", *kinds[2]))
    return helper.make_graph(list(nodes), "body", given, made)


def _loop(rng: random.Random) -> onnx.ModelProto:
    """Passes without end that no constant says: computed, or a condition that stays true."""
    inner = [
        node("Equal", ["i0", "i0"], ["go"]),
        node("MatMul", ["i2", "w"], ["v"]),
    ]
    loop = node("Loop", ["n", "", "x"], ["y"], "loop", body=_body(inner))
    made, constants = [loop], {"n": np.array(2**62)}
    if rng.random() < 0.5:
        made = [node("Mul", ["k", "k"], ["n"]), loop]
        constants = {"k": np.array(2**30)}
    return graph_of(made, constants)


def _nested_loops(rng: random.Random) -> onnx.ModelProto:
    """Each of few passes."""
    inner: list[onnx.NodeProto] = [node("MatMul", ["i2", "w"], ["v"])]
    for _ in range(rng.choice((6, 14, 25))):
        body = _body([*inner, node("Identity", ["i1"], ["go"])])
        inner = [node("Loop", ["n", "", "i2"], ["v"], body=body)]
    inner[0].input[2] = "x"
    inner[0].output[0] = "y"
    return graph_of(inner, {"n": np.array(1000)})


def _function(name: str, calls: Sequence[str]) -> onnx.FunctionProto:
    body = [node(call, [f"a{i}" if i else "a"], [f"a{i + 1}"], domain="local")
            for i, call in enumerate(calls)]  # fmt: skip
    last = f"a{len(calls)}" if calls else "a"
    body.append(node("Relu", [last], ["b"]))
    return helper.make_function("local", name, ["a"], ["b"], body, _OPSETS)


def _functions(rng: random.Random) -> onnx.ModelProto:
    """They call each other, in a circle, a long row, or twice each."""
    form, steps = rng.choice(("circle", "row", "twice", "ten times")), rng.choice((12, 40, 500))
    times = {"circle": 1, "row": 1, "twice": 2, "ten times": 10}[form]
    found = [_function(f"F{i}", [f"F{i + 1}"] * times) for i in range(steps)]
    found.append(_function(f"F{steps}", ["F0"] if form == "circle" else []))
    calls = [node("F0", ["x"], ["c"], domain="local"), node("MatMul", ["c", "w"], ["y"])]
    return graph_of(calls, functions=found)


def _odd_nodes(rng: random.Random) -> onnx.ModelProto:
    forms: list[list[onnx.NodeProto]] = [
        [node("If", ["t"], ["y"], "without branches")],
        [node("Loop", ["", "", "x"], ["y"], "without a body")],
        [node("Scan", ["x"], ["y"], "without a body", num_scan_inputs=1)],
        [node("", ["x"], ["y"], "without an operator")],
        [node("MatMul", ["x", "w"], [], "without an output"), _PRODUCT],
        [node("MatMul", [], ["y"], "without inputs")],
        [node("MatMul", ["x"], ["y"], "with one")],
        [node("Gemm", ["", ""], ["y"])],
        [_PRODUCT, node("MatMul", ["x", "w"], ["y"], "gemm")],
        [node("MatMul", ["x", "w"], ["w"]), node("Relu", ["w"], ["y"])],
        [node("Einsum", ["x", "w"], ["y"], equation=rng.choice(("", "->", "abc,cd", "a" * 9999)))],
        [node("Einsum", ["x", "w"], ["y"])],
        [node("Reshape", ["x", "bad"], ["c"]), node("MatMul", ["c", "w"], ["y"])],
        [node("Conv", ["x", "w"], ["y"], dilations=[2**40], kernel_shape=[2**40])],
        [node("Transpose", ["w"], ["c"], perm=[7, 9]), node("MatMul", ["x", "c"], ["y"])],
        [node("LSTM", ["x", "w", "w"], ["y"], hidden_size=2**40)],
        [node("MatMulNBits", ["x", "q", "w"], ["y"], domain="com.microsoft", K=2**40, N=2**40,
              bits=rng.choice((0, 4, 2**31)), block_size=rng.choice((0, 16, 2**40)))],
        [node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml")],
        [node("Attention", ["x", "w", "w"], ["y"], domain="com.microsoft", num_heads=0)],
        [node("Split", ["x"], ["y"], axis=99, num_outputs=2**40)],
        [node("OneHot", ["bad", "deep", "on"], ["y"])],
        [node("Gather", ["w", "bad"], ["y"], axis=2**40)],
    ]  # fmt: skip
    constants = {"t": np.array(True), "bad": _int(-1, -1, -5), "q": np.zeros((8, 1, 4), np.uint8)}
    return graph_of(rng.choice(forms), constants | {"deep": np.array(2**40), "on": _int(0, 1)})


def _odd_scales(rng: random.Random) -> onnx.ModelProto:
    """Quantized weights whose scales, zero points and axes do not fit."""
    rounded = [node("QuantizeLinear", ["x", "s", "z"], ["q"]),
               node("DequantizeLinear", ["q", "s", "z"], ["d"])]  # fmt: skip
    weight = node("DequantizeLinear", ["codes", "scales", "zeros"], ["c"],
                  axis=rng.choice((0, 1, 7, -9, 2**40)),
                  block_size=rng.choice((0, 3, 2**40, -1)))  # fmt: skip
    shape = rng.choice(((), (1,), (8,), (7,), (0,), (2, 8), (3, 5), (8, 8, 8)))
    constants = {
        "s": np.float32(rng.choice((0.1, 0.0, -1.0, np.nan, np.inf))),
        "z": np.uint8(128),
        "codes": np.ones((8, 8), rng.choice((np.int8, np.uint8, np.int16, np.int32))),
        "scales": np.ones(shape, rng.choice((np.float32, np.float16))),
        "zeros": np.zeros(shape, np.int8),
    }
    return graph_of([*rounded, weight, node("MatMul", ["d", "c"], ["y"], "gemm")], constants)


def _odd_versions(rng: random.Random) -> onnx.ModelProto:
    opsets = rng.choice(
        ([], [("", 2**31)], [("", 0)], [("", -5)], [("", 20), ("", 7)], [("evil", 3)], [("", 1)])
    )
    made = [helper.make_opsetid(*pair) for pair in opsets]
    model = graph_of([_PRODUCT], opset_imports=made, ir_version=rng.choice((10, 10, 0, 3, 10**9)))
    if not opsets:
        del model.opset_import[:]
    return model


def _odd_types(rng: random.Random) -> onnx.ModelProto:
    inner = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    kinds = [helper.make_sequence_type_proto(inner), helper.make_optional_type_proto(inner)]
    kinds.append(helper.make_map_type_proto(TensorProto.STRING, inner))
    deep = inner
    for _ in range(rng.choice((10, 20))):
        deep = helper.make_sequence_type_proto(deep)
    kinds += [deep, onnx.TypeProto(), helper.make_tensor_type_proto(99, [2])]
    value = helper.make_value_info("x", rng.choice(kinds))
    second = helper.make_tensor_value_info("v", TensorProto.STRING, ["b", "s", 8])
    chosen = rng.choice((node("Identity", ["x"], ["y"]), node("MatMul", ["v", "w"], ["y"])))
    return graph_of([chosen], inputs=[value, second])


def _odd_stores(rng: random.Random) -> onnx.ModelProto:
    """Numbers in fields of another type, sparse ones, strings, types that do not exist."""
    model = graph_of([_PRODUCT])
    tensor = model.graph.initializer[0]
    form = rng.choice(("int32", "float", "none", "type", "sparse", "strings", "twice", "segment"))
    if form in ("int32", "float", "none", "strings"):
        tensor.ClearField("raw_data")
    if form == "int32":
        tensor.int32_data.extend([1] * 64)
    elif form == "float":
        tensor.float_data.extend([1.0] * rng.choice((1, 63, 65, 9999)))
    elif form == "type":
        tensor.data_type = rng.choice((0, 8, 10, 14, 23, 77, 2**31 - 1))
    elif form == "strings":
        tensor.data_type = TensorProto.STRING
        tensor.string_data.extend([b"x" * rng.choice((1, 10**5))] * 64)
    elif form == "twice":
        model.graph.initializer.add().CopyFrom(tensor)
    elif form == "segment":
        tensor.segment.begin, tensor.segment.end = 0, 2**40
    elif form == "sparse":
        values = numpy_helper.from_array(np.ones(1, np.float32), "w")
        places = numpy_helper.from_array(_int(rng.choice((0, -1, 2**40))), "p")
        del model.graph.initializer[:]
        dims = rng.choice(([8, 8], [2**40, 2**40]))
        made = onnx.SparseTensorProto(values=values, indices=places, dims=dims)
        model.graph.sparse_initializer.append(made)
    return model


def _named(rng: random.Random) -> onnx.ModelProto:
    """Legal, with names that are commands to a terminal or to a page."""
    name = rng.choice(("\x1b[31mred\x07", "[/x]", "<script>", "a\nb", "\u202eevil", "x" * 70_000))
    made = [node("MatMul", ["x", name], [f"{name}y"], name), node("Relu", [f"{name}y"], ["y"])]
    return graph_of(made, {name: _WEIGHT})


def _bases(rng: random.Random) -> bytes:
    made = rng.choice((_nested_loops, _functions, _odd_scales, _named, _diamond))
    if made in (_nested_loops, _functions, _diamond):
        made = _odd_scales
    return made(rng).SerializeToString()


def _flipped(rng: random.Random) -> bytes:
    content = bytearray(_bases(rng))
    for _ in range(rng.choice((1, 2, 8, 64))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _spliced(rng: random.Random) -> bytes:
    content = _bases(rng)
    start, stop = sorted(rng.randrange(len(content)) for _ in range(2))
    return (
        content[:start] + content[stop:] if rng.random() < 0.5 else content[:stop] + content[start:]
    )


# Kinds that no rule may let through.
REFUSED: dict[str, Make] = {
    "weights: ..": _place("../canary"),
    "weights: sub/../..": _place("sub/../../canary"),
    "weights: absolute": _place("{canary}"),
    "weights: ./..": _place("./../canary"),
    "weights: backslashes": _place("..\\canary"),
    "weights: drive": _place("C:/canary"),
    "weights: URL": _place("file:///etc/passwd"),
    "weights: empty": _place(""),
    "weights: dot": _place("."),
    "weights: NUL": _place("weights.data\0x"),
    "weights: nowhere": _stored([("offset", "0")]),
    "weights: said twice": _stored([("location", "weights.data"), ("location", "../canary")]),
    "weights: missing": _place("other.data"),
    "weights: long name": _place("n" * 300),
    "weights: linked folder": _linked_folder,
    "weights: linked device": _linked_device,
    "weights: loop of links": _loop_of_links,
    "weights: a folder": _place("/".join(["."] * 3)),
    "weights: /dev/zero": _place("/dev/zero"),
    "weights: /proc": _place("/proc/self/environ"),
    "weights: hexadecimal": _place("weights.data", offset="0x10"),
    "weights: 1e3": _place("weights.data", length="1e3"),
    "weights: negative": _place("weights.data", offset="-256"),
    "weights: behind the end": _place("weights.data", offset="4"),
    "weights: offset of 2^63": _place("weights.data", offset=str(2**63)),
    "weights: length of 2^62": _place("weights.data", length=str(2**62)),
    "weights: short": _stored([("location", "weights.data")], b"short"),
    "weights: 2,000 of one range": _of(_many_of_one_range),
    "file: FIFO": _model_is("fifo"),
    "file: folder": _model_is("folder"),
    "file: loop of links": _model_is("loop"),
    "file: /dev/zero": _model_is("/dev/zero"),
    "file: /proc": _model_is("/proc/self/environ"),
    "file: the canary": _model_is("{canary}"),
    "bomb": _of(_bomb),
    "function that calls itself": KNOWN["function that calls itself"],
    "endless Loop": KNOWN["endless Loop"],
    "huge constant": KNOWN["huge constant"],
    "huge expand": KNOWN["huge expand"],
    "cycle": KNOWN["cycle"],
    "missing initializer": KNOWN["missing initializer"],
    **{name: KNOWN[name] for name in READS_OUTSIDE},
}
# Kinds of which some are legal, and some are seen only when they run.
EITHER: dict[str, Make] = {
    **{name: make for name, make in KNOWN.items() if name not in REFUSED},
    "a computed shape": _of(_computed_shape),
    "doubled": _of(_doubled),
    "made of constants": _of(_made),
    "large products": _of(_large_products),
    "input of 2^62": _input_of(2**62, 4),
    "input of many axes": _input_of(*"abcdefghijkl"),
    "input of negative size": _input_of(-5, 8),
    "diamond": _of(_diamond),
    "long chain": _of(_chain),
    "damaged": _of(_damaged),
    "endless loop that is computed": _of(_loop),
    "nested loops": _of(_nested_loops),
    "functions": _of(_functions),
    "odd nodes": _of(_odd_nodes),
    "odd scales": _of(_odd_scales),
    "odd versions": _of(_odd_versions),
    "odd types": _of(_odd_types),
    "odd stores": _of(_odd_stores),
    "names": _of(_named),
    "flipped": _of(_flipped),
    "spliced": _of(_spliced),
}
KINDS: dict[str, Make] = REFUSED | EITHER
OUTSIDE = (
    *READS_OUTSIDE,
    *(name for name in REFUSED if name.startswith(("weights:", "file: the"))),
)
