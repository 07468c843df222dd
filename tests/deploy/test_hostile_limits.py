"""What looking at hostile files costs, what it lets honest ones do, and graphs that stop later."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import qdeploy
from qdeploy.analyze.segments import SegmentedModel
from qdeploy.autotune.target import build_fastest
from qdeploy.deploy import foreign
from qdeploy.deploy.options import BuildOptions
from qdeploy.deploy.ort.session import open_session, session_options
from qdeploy.deploy.passes.equivalence import run_once
from qdeploy.errors import MachineError, ModelError, RunError, TargetError
from qdeploy.graph import session as runs
from qdeploy.onnx_file.check import check_file, check_inside, check_names
from qdeploy.onnx_file.structure import MAX_FIELDS
from tests.deploy.conftest import Built, Source
from tests.deploy.hostile_onnx import graph_of, node
from tests.deploy.test_onnx_wire import BYTES, VARINT, entry, varint
from tests.manifests import sign

SECONDS = 10.0  # of the processor, for any file


def written(folder: Path, content: onnx.ModelProto | bytes, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def refused(path: Path, look: Callable[[Path], Any] = check_file) -> str:
    """The text of a refusal, which took no time."""
    began = time.process_time()
    with pytest.raises(ModelError) as caught:
        look(path)
    assert time.process_time() - began < SECONDS
    text = str(caught.value)
    assert text.startswith(f"{path} ") and len(text) < len(str(path)) + 500
    return text


def outside(name: str, location: str, *, offset: int = 0, length: int = 256) -> TensorProto:
    """An FP32 tensor [8, …] in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[8, length // 32])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def storing(*tensors: TensorProto) -> onnx.ModelProto:
    """A model with one product, and these tensors."""
    model = graph_of([node("MatMul", ["x", "w"], ["y"])])
    model.graph.initializer.extend(tensors)
    return model


# --- what the first look costs -------------------------------------------------------------------


@pytest.mark.parametrize("count", [300, 400_000])
def test_shapes_without_end_are_not_multiplied_to_it(count: int, tmp_path: Path) -> None:
    random = node("RandomNormal", [], ["y"], shape=[2**62] * count)
    assert "makes more than 268,435,456 numbers" in refused(written(tmp_path, graph_of([random])))


def test_a_shape_is_read_once_for_all_its_readers(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.ones(128, np.int64), "s")
    made = [node("Range", ["s"] * 3, [f"o{at}"]) for at in range(50_000)]
    model = graph_of([*made, node("Identity", ["x"], ["y"])])
    model.graph.initializer.append(shape)
    path = written(tmp_path, model)
    began = time.process_time()
    check_file(path)
    assert time.process_time() - began < SECONDS


def test_numbers_and_names_in_texts_are_cut(tmp_path: Path) -> None:
    dims = TensorProto(name="n" * 4000, data_type=1, dims=[2**40] * 64, raw_data=b"")
    assert "n" * 80 + "…" in refused(written(tmp_path, storing(dims)))
    reads = graph_of([node("MatMul", ["x", "q" * 4000], ["y"])])
    assert "q" * 80 + "…, which nothing" in refused(written(tmp_path, reads))
    manifest: Any = {"inputs": ["x"], "outputs": ["y"]}
    with pytest.raises(ModelError) as caught:
        check_names(tmp_path, ["i" * 4000] * 9, [], manifest)
    assert len(str(caught.value)) < 500


def test_a_name_of_a_gigabyte_is_not_copied(tmp_path: Path) -> None:
    """In a file with a hole, which takes no disk."""
    size = 10**9
    head = varint(1 << 3 | BYTES) + varint(size)
    opened = varint(1 << 3 | BYTES) + varint(len(head) + size)
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.write(varint(7 << 3 | BYTES) + varint(len(opened + head) + size) + opened + head)
        file.truncate(file.tell() + size)
    assert "a name in it has more than 4,096 bytes" in refused(path)


def test_names_are_bounded_together(tmp_path: Path) -> None:
    one = entry(1, BYTES, entry(1, BYTES, b"n" * 4096))
    assert "its names have more than" in refused(written(tmp_path, entry(7, BYTES, one * 40_000)))


def test_numbers_without_tags_are_counted_exactly(tmp_path: Path) -> None:
    def held(values: bytes, count: int) -> Path:
        stored = entry(1, VARINT, count) + entry(2, VARINT, 7) + entry(8, BYTES, b"i")
        tensor = entry(5, BYTES, stored + entry(7, BYTES, values))
        model = graph_of([node("Identity", ["x"], ["y"])])
        return written(tmp_path, model.SerializeToString() + entry(7, BYTES, tensor))

    check_file(held(varint(2**33) * 20, 20))
    assert "does not have as many numbers" in refused(held(varint(2**33) * 20, 100))
    check_file(held(b"\x01" * 3 * MAX_FIELDS, 3 * MAX_FIELDS))


def test_numbers_of_another_wire_type_are_none(tmp_path: Path) -> None:
    stored = entry(1, VARINT, 4096) + entry(2, VARINT, 1) + entry(4, 1, bytes(8)) * 4096
    content = graph_of([node("Identity", ["x"], ["y"])]).SerializeToString()
    path = written(tmp_path, content + entry(7, BYTES, entry(5, BYTES, stored)))
    assert "does not have as many numbers" in refused(path)


def test_a_sparse_constant_is_as_large_as_it_becomes(tmp_path: Path) -> None:
    model = graph_of([node("Identity", ["x"], ["y"])])
    one, at = (numpy_helper.from_array(np.ones(1, t), "s") for t in (np.float32, np.int64))
    sparse = onnx.SparseTensorProto(values=one, indices=at, dims=[2**31, 2**31])
    model.graph.sparse_initializer.append(sparse)
    assert "is sparse, and becomes [2147483648, 2147483648]" in refused(written(tmp_path, model))


# --- what the second look may cost ---------------------------------------------------------------


def test_holes_buy_no_time_and_no_memory(tmp_path: Path) -> None:
    with (tmp_path / "w.data").open("wb") as file:
        file.truncate(100 << 30)
    path = written(tmp_path, storing(outside("t", "w.data", length=32 << 30)))
    assert check_file(path) < 100_000
    with path.open("ab") as file:  # a text of the file, which nothing reads
        file.write(varint(6 << 3 | BYTES) + varint(10**9))
        file.truncate(file.tell() + 10**9)
    assert check_file(path) < 100_000


def test_bytes_that_nothing_names_buy_none(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(3_000_000))
    path = written(tmp_path, storing(outside("t", "w.data"), outside("u", "w.data", offset=128)))
    assert check_file(path) == path.stat().st_size + 384


def test_a_look_ends_whatever_the_size() -> None:
    assert foreign._seconds(10**12) == foreign.MOST_SECONDS
    assert foreign._seconds(0) == foreign.SECONDS


# --- weights in other files ----------------------------------------------------------------------


def test_a_tensor_says_whether_it_stands_elsewhere(tmp_path: Path) -> None:
    tensor = numpy_helper.from_array(np.ones((8, 8), np.float32), "t")
    tensor.external_data.add(key="location", value="w.data")
    (tmp_path / "w.data").write_bytes(bytes(256))
    assert "says that it does not stand in one" in refused(written(tmp_path, storing(tensor)))


@pytest.mark.parametrize("location", ["*/_ORT_MEM_ADDR_/*", "*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*"])
def test_an_address_is_no_file(location: str, tmp_path: Path) -> None:
    real = tmp_path / location
    real.parent.mkdir(parents=True)
    real.write_bytes(bytes(256))
    text = refused(written(tmp_path, storing(outside("t", location))))
    assert "is an address" in text and "`cp -L`" in text


def test_entries_that_are_not_of_onnx(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(bytes(256))
    tensor = outside("t", "w.data")
    tensor.external_data.add(key="prepacked_0", value="key|0|99999999|x")
    assert "prepacked_0" in refused(written(tmp_path, storing(tensor)))


def test_a_colon_is_a_letter(tmp_path: Path) -> None:
    (tmp_path / "bert:v2.onnx.data").write_bytes(bytes(256))
    path = written(tmp_path, storing(outside("t", "bert:v2.onnx.data")), "bert:v2.onnx")
    if os.name == "posix":
        assert check_file(path) == path.stat().st_size + 256


def test_tensors_that_share_a_region(tmp_path: Path) -> None:
    """As tied weights do; in a directory of qdeploy's own they would multiply what is read."""
    (tmp_path / "model.onnx.data").write_bytes(bytes(256))
    many = [outside(f"t{at}", "model.onnx.data") for at in range(100)]
    path = written(tmp_path, storing(*many))
    assert check_file(path) == path.stat().st_size + 256
    assert "share regions of model.onnx.data" in refused(path, check_inside)


def test_too_many_files(tmp_path: Path) -> None:
    many = []
    for at in range(10_001):
        (tmp_path / str(at)).touch()
        many.append(outside(f"t{at}", str(at), length=0))
    assert "in more than 10,000 files" in refused(written(tmp_path, storing(*many)))


# --- what is honest ------------------------------------------------------------------------------


def looping(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """A loop of INT64_MAX passes whose body makes `go` and `v` of i (pass), c and s (state)."""
    kinds: list[tuple[str, int, list[int] | None]] = [
        ("i", TensorProto.INT64, []),
        ("c", TensorProto.BOOL, []),
        ("s", TensorProto.FLOAT, None),
        ("go", TensorProto.BOOL, []),
        ("v", TensorProto.FLOAT, None),
    ]
    values = [helper.make_tensor_value_info(*kind) for kind in kinds]
    body = helper.make_graph(nodes, "body", values[:3], values[3:])
    loop = node("Loop", ["n", "t", "x"], ["l"], "loop", body=body)
    constants = {"n": np.array(2**63 - 1), "t": np.array(True), "most": np.float32(100)}
    constants["two"] = np.float32(2)
    return graph_of([loop, node("MatMul", ["l", "w"], ["y"])], constants)


def test_a_loop_until_a_condition_that_passes_through(tmp_path: Path) -> None:
    steps = [
        node("Mul", ["s", "two"], ["v"]),
        node("ReduceSum", ["v"], ["sum"], keepdims=0),
        node("Less", ["sum", "most"], ["less"]),
        node("Identity", ["less"], ["same"]),
        node("Identity", ["same"], ["go"]),
    ]
    assert qdeploy.inspect(written(tmp_path, looping(steps)))["kind"] == "onnx"
    for source in ("c", "t"):  # no condition, through two nodes
        endless = [node("Identity", ["s"], ["v"]), node("Identity", [source], ["a"])]
        path = written(tmp_path, looping([*endless, node("Identity", ["a"], ["go"])]))
        assert "asks for 9223372036854775807 passes" in refused(path)


def test_texts_in_a_file(tmp_path: Path) -> None:
    many = TensorProto(name="many", data_type=TensorProto.STRING, dims=[50_000])
    many.string_data.extend([b"a"] * 50_000)
    long = TensorProto(name="long", data_type=TensorProto.STRING, dims=[1])
    long.string_data.append(b"a" * 100_000)
    path = written(tmp_path, storing(many, long))
    assert qdeploy.inspect(path)["operators"] == {"MatMul": 1}


def test_what_to_do_about_an_input_of_no_encoder(tmp_path: Path) -> None:
    model = storing()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**62
    with pytest.raises(ModelError, match=r"no encoder's\. Write the file again with axes that are"):
        qdeploy.inspect(written(tmp_path, model))


# --- constants of directories --------------------------------------------------------------------


def computing(made: list[onnx.NodeProto], **constants: Any) -> onnx.ModelProto:
    """A graph whose node `c` is made of constants, and added to the input."""
    last = [node("ReduceMax", ["c"], ["m"], keepdims=0), node("Add", ["x", "m"], ["y"])]
    return graph_of([*made, *last], constants)


def chained(operator: str, count: int, start: list[onnx.NodeProto], **constants: Any) -> Any:
    made = [node(operator, [f"c{at}"] * 2, [f"c{at + 1}"]) for at in range(count)]
    if operator == "Concat":
        for one in made:
            one.attribute.append(helper.make_attribute("axis", 0))
    return computing([*start, *made, node("Identity", [f"c{count}"], ["c"])], **constants)


_MADE = node("ConstantOfShape", ["s"], ["c0"])
_SQUARE = np.array([4096, 4096])
GROWING: dict[str, Any] = {
    "doubled": lambda: chained("Concat", 16, [_MADE], s=np.array([2**20])),
    "multiplied": lambda: chained("MatMul", 200, [_MADE], s=_SQUARE),
    "multiplied and small": lambda: chained(
        "MatMul", 10_000, [node("Identity", ["w0"], ["c0"])], w0=np.ones((512, 512), np.float32)
    ),
    "spread": lambda: computing(
        [node("ConstantOfShape", ["s"], ["c0"]), node("Transpose", ["c0"], ["c1"], perm=[1, 0]),
         node("Add", ["c0", "c1"], ["c"])], s=np.array([1, 2**15])),
    "computed shape": lambda: computing(
        [node("Mul", ["s", "s"], ["t"]), node("ConstantOfShape", ["t"], ["c"])],
        s=np.array([2**16])),
    "expanded by a computed shape": lambda: computing(
        [node("Mul", ["s", "s"], ["t"]), node("Expand", ["one", "t"], ["c"])],
        s=np.array([2**16]), one=np.float32(1)),
    "shape in an attribute": lambda: computing(
        [node("Constant", [], ["s"], value_ints=[2**40]), node("ConstantOfShape", ["s"], ["c"])]),
    "tiled": lambda: computing(
        [node("Tile", ["w", "r"], ["c0"]), node("Tile", ["c0", "r"], ["c"])],
        r=np.array([2**12, 2**12])),
    "ranged": lambda: computing(
        [node("Range", ["a", "b", "d"], ["c"])], a=np.float32(0), b=np.float32(1e12),
        d=np.float32(1)),
    "gathered": lambda: computing(
        [node("ConstantOfShape", ["s"], ["i"], value=numpy_helper.from_array(np.array([0]))),
         node("Gather", ["t", "i"], ["c"])],
        s=np.array([2**20]), t=np.ones((2, 4096), np.float32)),
    "padded": lambda: computing([node("Pad", ["w", "p"], ["c"])], p=np.array([2**20, 0, 0, 0])),
    "resized": lambda: computing(
        [node("Resize", ["w", "", "f"], ["c"])], f=np.array([1e6, 1e6], np.float32)),
    "one hot": lambda: computing(
        [node("OneHot", ["i", "d", "v"], ["c"])], i=np.zeros(2**16, np.int64), d=np.array(2**16),
        v=np.array([0.0, 1.0])),
    "kept many times": lambda: computing(
        [node("ConstantOfShape", ["s"], ["c"]),
         *(node("Neg", ["c"], [f"n{at}"]) for at in range(100))], s=np.array([2**24])),
    "many nodes": lambda: graph_of(
        [node("Relu", ["x" if at == 0 else f"a{at - 1}"], ["y" if at == 20_000 else f"a{at}"])
         for at in range(20_001)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", GROWING)
def test_constants_alone_make_nothing_large(kind: str, tmp_path: Path) -> None:
    refused(written(tmp_path, GROWING[kind]()), check_inside)


def test_a_table_of_positions_that_every_layer_multiplies(tmp_path: Path) -> None:
    """What DeBERTa leaves of constants alone: twice in each of 24 layers, of 1024 channels."""
    made = [
        node("LayerNormalization", ["table", "ones", "ones"], ["normal"], axis=-1),
        node("Unsqueeze", ["normal", "first"], ["stack"]),
    ]
    for at in range(48):
        made += [
            node("MatMul", ["stack", "weight"], [f"a{at}"]),
            node("Add", [f"a{at}", "ones"], [f"b{at}"]),
            node("Reshape", [f"b{at}", "heads"], [f"c{at}"], allowzero=1),
            node("Transpose", [f"c{at}"], [f"d{at}"], perm=[0, 2, 1, 3]),
            node("Reshape", [f"d{at}", "folded"], [f"e{at}"], allowzero=1),
            node("Expand", [f"e{at}", "folded"], [f"f{at}"]),
        ]
    constants = {
        "table": np.ones((512, 1024), np.float32),
        "weight": np.ones((1024, 1024), np.float32),
        "ones": np.ones(1024, np.float32),
        "first": np.array([0]),
        "heads": np.array([1, 512, 16, 64]),
        "folded": np.array([16, 512, 64]),
    }
    check_inside(written(tmp_path, graph_of([*made, node("Relu", ["x"], ["y"])], constants)))


def test_axes_without_end_are_not_followed(tmp_path: Path) -> None:
    made = [
        node("Unsqueeze", ["w" if at == 0 else f"c{at - 1}", "a"], [f"c{at}"]) for at in range(5000)
    ]
    made += [node("Gather", [f"c{4999 + at}"] * 2, [f"c{5000 + at}"]) for at in range(40)]
    path = written(tmp_path, computing([*made, node("Identity", ["c5039"], ["c"])],
                                       a=np.arange(60)))  # fmt: skip
    refused(path, check_inside)


# --- graphs that keep every rule and stop --------------------------------------------------------


def _out_of_range(model: onnx.ModelProto) -> None:
    first = next(made for made in model.graph.node if made.op_type == "Gather")
    first.input[1] = "bad"
    model.graph.initializer.append(numpy_helper.from_array(np.array([[10**9, -(10**12)]]), "bad"))


def _bad_reshape(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.INT64 and tensor.dims:
            tensor.CopyFrom(numpy_helper.from_array(np.full(list(tensor.dims), -7), tensor.name))


STOPPING = {"out of range": _out_of_range, "bad reshape": _bad_reshape}


def stopping(kind: str, directory: Path, copy: Path) -> Path:
    """A copy of a directory whose graph stops, with right hashes; its file."""
    shutil.copytree(directory, copy)
    path = copy / "model.onnx"
    model = onnx.load_model(path)
    STOPPING[kind](model)
    path.write_bytes(model.SerializeToString())
    sign(copy)
    return path


def told(caught: pytest.ExceptionInfo[RunError], path: Path) -> None:
    """The user's file, what happened, and what to do; no folder of our own."""
    text = str(caught.value)
    assert text.startswith(f"{path} ") and text.endswith("again.")
    assert ".partial" not in text and "/qdeploy-" not in text
    reasons = ("out of data bounds", "mismatch", "invalid bounds", "Unexpected axis", "of range")
    assert any(reason in text for reason in reasons)


@pytest.mark.parametrize("target", ["ort-cpu", "openvino"])
@pytest.mark.parametrize("kind", STOPPING)
def test_an_engine_that_stops(
    kind: str, target: str, engine: Callable[..., Built], tmp_path: Path
) -> None:
    built = engine(strategy="fp32", target=target).directory
    path = stopping(kind, built, tmp_path / "e")
    with pytest.raises(RunError) as caught:
        qdeploy.load(path.parent).predict([("who", "the king")])
    told(caught, path)
    with pytest.raises(RunError) as caught:
        qdeploy.evaluate(path.parent, limit=4, latency=False)
    told(caught, path)


@pytest.mark.parametrize("strategy", ["fp32", "dynamic", "w8a8", "peg"])
@pytest.mark.parametrize("kind", STOPPING)
def test_a_model_that_stops(kind: str, strategy: str, bert: Source, tmp_path: Path) -> None:
    path = stopping(kind, bert.directory, tmp_path / "m")
    shutil.rmtree(path.parent / "calibration", ignore_errors=True)
    with warnings.catch_warnings(), pytest.raises(RunError) as caught:
        warnings.simplefilter("ignore")
        qdeploy.build(path.parent, tmp_path / "e", strategy=strategy, calibration_rows=8)
    told(caught, path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_a_model_that_stops_for_others(bert: Source, tmp_path: Path) -> None:
    path = stopping("out of range", bert.directory, tmp_path / "m")
    shutil.rmtree(path.parent / "calibration", ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(RunError) as caught:
            qdeploy.calibrate(path.parent, calibration_rows=8)
        told(caught, path)
        with pytest.raises(TargetError, match="No target takes this build.*cannot be used"):
            build_fastest(path.parent, tmp_path / "e", BuildOptions(strategy="fp32"))


def test_sessions_of_copies(bert: Source) -> None:
    """`analyze` and the proof of a rewrite run graphs of which no file stays."""
    model, structure = bert.graph()
    feeds = bert.feeds(2)
    wrong = {name: array.astype(np.float32) for name, array in feeds.items()}
    with pytest.raises(RunError, match="does not run in ONNX Runtime"):
        run_once(model, wrong)
    segmented = SegmentedModel(model, structure)
    with pytest.raises(RunError, match="does not run in ONNX Runtime"):
        segmented.run(wrong, {})


def test_memory_stays_the_machine_s(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="Out of memory"), runs.running(tmp_path, "OpenVINO"):
        raise RuntimeError("Exception from core.cpp:1:\nstd::bad_alloc")
    with pytest.raises(KeyboardInterrupt), runs.running(tmp_path, "OpenVINO"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Exception from a.cpp:1:\nException from b.cpp:2:\nCheck 'c' failed at d:\nAxis 7\n\n",
         "Axis 7"),
        ("Exception from a.cpp:1:\nModel wasn't fully converted.\nSummary:\n-- No rule for Nope-20",
         "No rule for Nope-20"),
        ("[ONNXRuntimeError] : 1 : FAIL : bad.", "[ONNXRuntimeError] : 1 : FAIL : bad"),
        ("only:\n", "only:"),
        ("", "RuntimeError"),
    ],
)  # fmt: skip
def test_the_line_that_gives_a_reason(text: str, reason: str) -> None:
    assert runs.reason_of(RuntimeError(text)) == reason


def test_a_file_that_does_not_load_is_named_once(tmp_path: Path) -> None:
    path = written(tmp_path, b"no graph")
    with pytest.raises(RunError) as caught, runs.blaming(path):
        open_session(path, session_options(1))
    assert str(caught.value).count(str(tmp_path)) == 1
    assert "cannot be used" not in str(caught.value)
