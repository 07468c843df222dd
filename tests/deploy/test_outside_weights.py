"""Weights in other files: which places are files, and how many there may be."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from qdeploy.onnx_file.check import check_file, check_inside
from tests.deploy.refusals import outside, refused, storing, written


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
