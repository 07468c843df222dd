"""Bodies, functions, and nodes, scales, versions, types and stores that are odd."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.deploy.onnx_graphs import OPSETS, PRODUCT, WEIGHT, graph_of, int64, node


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


def loop(rng: random.Random) -> onnx.ModelProto:
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


def nested_loops(rng: random.Random) -> onnx.ModelProto:
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
    return helper.make_function("local", name, ["a"], ["b"], body, OPSETS)


def functions(rng: random.Random) -> onnx.ModelProto:
    """They call each other, in a circle, a long row, or twice each."""
    form, steps = rng.choice(("circle", "row", "twice", "ten times")), rng.choice((12, 40, 500))
    times = {"circle": 1, "row": 1, "twice": 2, "ten times": 10}[form]
    found = [_function(f"F{i}", [f"F{i + 1}"] * times) for i in range(steps)]
    found.append(_function(f"F{steps}", ["F0"] if form == "circle" else []))
    calls = [node("F0", ["x"], ["c"], domain="local"), node("MatMul", ["c", "w"], ["y"])]
    return graph_of(calls, functions=found)


def odd_nodes(rng: random.Random) -> onnx.ModelProto:
    forms: list[list[onnx.NodeProto]] = [
        [node("If", ["t"], ["y"], "without branches")],
        [node("Loop", ["", "", "x"], ["y"], "without a body")],
        [node("Scan", ["x"], ["y"], "without a body", num_scan_inputs=1)],
        [node("", ["x"], ["y"], "without an operator")],
        [node("MatMul", ["x", "w"], [], "without an output"), PRODUCT],
        [node("MatMul", [], ["y"], "without inputs")],
        [node("MatMul", ["x"], ["y"], "with one")],
        [node("Gemm", ["", ""], ["y"])],
        [PRODUCT, node("MatMul", ["x", "w"], ["y"], "gemm")],
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
    constants = {"t": np.array(True), "bad": int64(-1, -1, -5), "q": np.zeros((8, 1, 4), np.uint8)}
    return graph_of(rng.choice(forms), constants | {"deep": np.array(2**40), "on": int64(0, 1)})


def odd_scales(rng: random.Random) -> onnx.ModelProto:
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


def odd_versions(rng: random.Random) -> onnx.ModelProto:
    opsets = rng.choice(
        ([], [("", 2**31)], [("", 0)], [("", -5)], [("", 20), ("", 7)], [("evil", 3)], [("", 1)])
    )
    made = [helper.make_opsetid(*pair) for pair in opsets]
    model = graph_of([PRODUCT], opset_imports=made, ir_version=rng.choice((10, 10, 0, 3, 10**9)))
    if not opsets:
        del model.opset_import[:]
    return model


def odd_types(rng: random.Random) -> onnx.ModelProto:
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


def odd_stores(rng: random.Random) -> onnx.ModelProto:
    """Numbers in fields of another type, sparse ones, strings, types that do not exist."""
    model = graph_of([PRODUCT])
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
        places = numpy_helper.from_array(int64(rng.choice((0, -1, 2**40))), "p")
        del model.graph.initializer[:]
        dims = rng.choice(([8, 8], [2**40, 2**40]))
        made = onnx.SparseTensorProto(values=values, indices=places, dims=dims)
        model.graph.sparse_initializer.append(made)
    return model


def named(rng: random.Random) -> onnx.ModelProto:
    """Legal, with names that are commands to a terminal or to a page."""
    name = rng.choice(("\x1b[31mred\x07", "[/x]", "<script>", "a\nb", "\u202eevil", "x" * 70_000))
    made = [node("MatMul", ["x", name], [f"{name}y"], name), node("Relu", [f"{name}y"], ["y"])]
    return graph_of(made, {name: WEIGHT})
