"""Embedding tables as int8 with one scale per row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from qdeploy.deploy.targets.ort_cpu.lower import lower as lower_ort_cpu
from qdeploy.graph.sites import find_structure
from tests.deploy.conftest import Source
from tests.deploy.tolerances import HALF_STEP, ROUNDING
from tests.deploy.toys import Toy, plan_of, run, saved

ROWS, COLUMNS = 600, 32
TABLE = np.random.default_rng(0).normal(size=(ROWS, COLUMNS)).astype(np.float32)
TABLE *= np.exp(np.random.default_rng(1).normal(size=(ROWS, 1), scale=2)).astype(np.float32)
TABLE[7] = 0  # a padding row
EVERY_ROW = np.arange(ROWS).reshape(2, -1).astype(np.float32)


def embedding(*, tied: bool = False) -> ir.Model:
    """Rows of a table by index, and a GEMM behind, so that there is a structure."""
    toy = Toy(("batch", "sequence"))
    index = toy.op("Cast", toy.x, to=int(ir.DataType.INT64), dtype=ir.DataType.INT64)
    table = toy.constant("embeddings.weight", TABLE)
    rows = toy.op("Gather", table, index, name="gather", axis=0)
    rows.shape = ir.Shape(("batch", "sequence", COLUMNS))
    if tied:
        second = toy.op("Gather", table, index, name="gather2", axis=0)
        second.shape = ir.Shape(("batch", "sequence", COLUMNS))
        rows = toy.op("Add", rows, second, name="sum")
        rows.shape = ir.Shape(("batch", "sequence", COLUMNS))
    product = toy.op("MatMul", rows, toy.constant("gemm.weight", np.eye(COLUMNS, dtype=np.float32)))
    product.shape = ir.Shape(("batch", "sequence", COLUMNS))
    return toy.model(product)


def lowered(model: ir.Model) -> ir.Model:
    """With every table as int8 and every GEMM in float."""
    structure = find_structure(model)
    tables = tuple(table.name for table in structure.tables)
    assert tables
    return lower_ort_cpu(model, plan_of(structure, {}, tables=tables), structure).model


def test_every_value_is_within_half_a_step_of_its_row(tmp_path: Path) -> None:
    (found,) = run(lowered(embedding()), tmp_path / "model.onnx", {"x": EVERY_ROW})
    step = np.abs(TABLE).max(axis=1, keepdims=True) / 127
    error = np.abs(found.reshape(ROWS, COLUMNS) - TABLE)
    assert (error <= HALF_STEP * step + 1e-12).all()
    assert error.max() > 0


def test_a_row_of_zeros_stays_zero(tmp_path: Path) -> None:
    (found,) = run(
        lowered(embedding()), tmp_path / "model.onnx", {"x": np.full((1, 3), 7, np.float32)}
    )
    assert not found.any()


def test_the_file_shrinks_by_what_the_table_loses(tmp_path: Path) -> None:
    before = saved(embedding(), tmp_path / "float.onnx").stat().st_size
    after = saved(lowered(embedding()), tmp_path / "int8.onnx").stat().st_size
    kept = ROWS * COLUMNS + 4 * ROWS  # codes, and one FP32 scale per row
    assert before - after >= 4 * ROWS * COLUMNS - kept - 1500  # 1500 bytes for three more nodes


def test_a_table_that_two_lookups_share_is_stored_once(tmp_path: Path) -> None:
    model = lowered(embedding(tied=True))
    tables = [
        v for v in model.graph.initializers.values() if v.shape is not None and v.shape[0] == ROWS
    ]
    assert {str(v.dtype) for v in tables} == {"INT8", "FLOAT"}
    assert len(tables) == 2  # codes and scales
    (once,) = run(lowered(embedding()), tmp_path / "once.onnx", {"x": EVERY_ROW})
    (twice,) = run(model, tmp_path / "twice.onnx", {"x": EVERY_ROW})
    np.testing.assert_allclose(twice, 2 * once, atol=ROUNDING * np.abs(once).max())


def test_the_word_table_of_a_bert_is_found_and_no_fp32_copy_stays(bert: Source) -> None:
    model, structure = bert.graph()
    words = max(structure.tables, key=lambda table: table.rows)
    result = lower_ort_cpu(model, plan_of(structure, {}, tables=(words.name,)), structure).model
    assert words.weight not in result.graph.initializers
