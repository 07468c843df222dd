"""What looking at hostile files costs, and what it lets honest ones do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import qdeploy
from qdeploy.deploy import foreign
from qdeploy.errors import ModelError
from qdeploy.onnx_file.check import check_file, check_names
from qdeploy.onnx_file.structure import MAX_FIELDS
from tests.deploy.onnx_graphs import graph_of, node
from tests.deploy.refusals import SECONDS, outside, refused, storing, written
from tests.deploy.wire import BYTES, VARINT, entry, varint
from tests.onnx_text import read_nodes

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


# --- what is honest ------------------------------------------------------------------------------


def looping(steps: str) -> onnx.ModelProto:
    """A loop of INT64_MAX passes whose body makes `go` and `v` of i (pass), c and s (state)."""
    nodes = read_nodes(f"""
        [loop] l = Loop<
            body = body (int64 i, bool c, float[] s) => (bool go, float[] v) {{ {steps} }}
        >(n, t, x)
        y = MatMul(l, w)
    """)
    constants = {"n": np.array(2**63 - 1), "t": np.array(True), "most": np.float32(100)}
    return graph_of(nodes, constants | {"two": np.float32(2)})


def test_a_loop_until_a_condition_that_passes_through(tmp_path: Path) -> None:
    steps = """
        v = Mul(s, two)
        sum = ReduceSum<keepdims = 0>(v)
        less = Less(sum, most)
        same = Identity(less)
        go = Identity(same)
    """
    assert qdeploy.inspect(written(tmp_path, looping(steps)))["kind"] == "onnx"
    for source in ("c", "t"):  # no condition, through two nodes
        endless = f"v = Identity(s) a = Identity({source}) go = Identity(a)"
        path = written(tmp_path, looping(endless))
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
