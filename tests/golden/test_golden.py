"""Lowered graphs are as written down, until somebody writes them anew and reads the diff."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.graphs import HERE, alike, cases, lowered_text, make_model

ANEW = "If the change is meant: python -m tests.golden.graphs, and read the diff."


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_model(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize(("target", "plan"), cases())
def test_a_lowered_graph_is_the_one_written_down(
    source: tuple[Path, Path], tmp_path: Path, target: str, plan: str
) -> None:
    text = lowered_text(*source, tmp_path, target, plan)
    golden = (HERE / f"{target}.{plan}.onnxtext").read_text("utf-8")
    if not alike(text, golden):
        assert text == golden, ANEW


@pytest.mark.parametrize("plan", ["w8a8", "peg", "peg-all-k3"])
def test_ort_tensorrt_has_the_graphs_of_tensorrt(
    source: tuple[Path, Path], tmp_path: Path, plan: str
) -> None:
    texts = [lowered_text(*source, tmp_path, name, plan) for name in ("tensorrt", "ort-tensorrt")]
    assert texts[0] == texts[1]


def test_every_file_belongs_to_a_case() -> None:
    assert {path.name for path in HERE.glob("*.onnxtext")} == {
        f"{target}.{plan}.onnxtext" for target, plan in cases()
    }


def test_last_digits_are_no_difference_and_all_else_is() -> None:
    assert alike("scale: 0.5001\n", "scale: 0.5\n")
    assert not alike("scale: 0.51\n", "scale: 0.5\n")
    assert not alike("Mul (a, b)\n", "Mul (a, c)\n")
    assert not alike("int64[4] = 0, 1\n", "int64[4] = 0, 2\n")
