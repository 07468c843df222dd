"""What the compiler makes of the products: multiples of what tensor cores load, and few kernels.

Read from the layers of engines that TensorRT-RTX compiles here, without a GPU.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.calibrate.run import calibrate_model
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.targets.tensorrt.dump import kernels_of
from qdeploy.errors import ModelError
from qdeploy.files.artifact import read_json
from tests.deploy.conftest import DATA, ROWS, Source
from tests.exports import Exports

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
FORMS: dict[str, dict[str, Any]] = {
    "factors": {},
    "groups": {"prescale": "none", "groups": 3},
    "outliers": {"prescale": "none", "groups": 1, "outlier_channels": 2},
    "many outliers": {"prescale": "none", "groups": 2, "outlier_channels": 9},
}


@pytest.fixture(scope="module")
def sized(exported: Exports, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Source]:
    """A tiny BERT of a hidden size, with statistics."""
    made: dict[int, Source] = {}

    def find(hidden: int) -> Source:
        if hidden not in made:
            directory = tmp_path_factory.mktemp("sized") / "model"
            shutil.copytree(exported("bert", hidden=hidden).model_dir, directory)
            statistics = calibrate_model(directory, data=DATA, calibration_rows=ROWS)
            made[hidden] = Source(directory, statistics)
        return made[hidden]

    return find


def layers(where: Source, output: Path, strategy: str = "peg", **options: Any) -> list[Any]:
    build_engine(
        where.directory,
        output,
        strategy=strategy,
        target="tensorrt-rtx",
        compute_capability="8.6",
        statistics=None if strategy == "fp16" else where.statistics,
        measure=False,
        **options,
    )
    found: list[Any] = read_json(output / "layers.json")["Layers"]
    return found


def products(found: list[Any]) -> Iterator[tuple[str, int, list[int]]]:
    """Of each product with a stored matrix: name, the multiple that its type asks for, and all of
    its sizes and strides."""
    for layer in found:
        matrices = [c for c in layer["Constants"] if len(c["Dimensions"]) > 1]
        matrices = [c for c in matrices if c["Dimensions"][-2] > 1]
        if layer["LayerType"] not in ("gemm", "runtime_fusion") or not matrices:
            continue
        if re.search(r"classifier|pooler", layer["Metadata"]):  # two classes, as the checkpoint has
            continue
        tensors = [*layer["Inputs"], *matrices, *layer["Outputs"]]
        whole = any(t["Datatype"] == "Int8" for t in layer["Inputs"])
        sizes = [n for t in tensors for n in (*t["Dimensions"], *t["Strides"]) if n > 1]
        yield layer["Name"], 32 if whole else 16, sizes


@pytest.mark.parametrize(
    ("hidden", "form"),
    [
        *((32, form) for form in FORMS),
        *(pytest.param(96, form, marks=pytest.mark.slow) for form in FORMS),
    ],
)
def test_sizes_and_strides_of_products_are_multiples(
    hidden: int, form: str, sized: Callable[[int], Source], tmp_path: Path
) -> None:
    found = layers(sized(hidden), tmp_path / "engine", **FORMS[form])
    seen = 0
    for name, multiple, sizes in products(found):
        seen += 1
        if form == "many outliers":  # beside a float product of 16 rows
            multiple = 16
        assert not [n for n in sizes if n % multiple], (name, sizes)
    assert seen >= 8


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Source:
    home = tmp_path_factory.mktemp("embedded") / "model"
    try:
        qdeploy.export("embedded", home)
    except ModelError as error:
        pytest.skip(str(error))
    return Source(home, calibrate_model(home, data=DATA, calibration_rows=64))


@pytest.fixture(scope="module")
def engines(embedded: Source, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The embedded model in every strategy, compiled for RTX 40."""
    home, made = tmp_path_factory.mktemp("engines"), {}
    for strategy in ("fp16", "w8a8", "peg", "fp8"):
        made[strategy] = home / strategy
        build_engine(
            embedded.directory,
            made[strategy],
            strategy=strategy,
            target="tensorrt-rtx",
            compute_capability="8.9",
            statistics=None if strategy == "fp16" else embedded.statistics,
            measure=False,
        )
    return made


@pytest.mark.slow
def test_the_embedded_model_is_compiled_as_planned(engines: dict[str, Path]) -> None:
    for strategy, engine in engines.items():
        check = read_json(engine / "certificate.json")["compiled"]
        assert check["executed"] == check["planned"] == (0 if strategy == "fp16" else 36)


@pytest.mark.slow
def test_sizes_and_strides_of_the_embedded_model(engines: dict[str, Path]) -> None:
    found = read_json(engines["peg"] / "layers.json")["Layers"]
    planned = [one for one in products(found) if "encoder" in one[0]]
    assert len(planned) >= 24
    assert [name for name, multiple, sizes in planned if any(n % multiple for n in sizes)] == []


def kernels_by_layer(engine: Path) -> dict[str, int]:
    """Launches between the merged query, key and value of one layer and those of the next."""
    counts: dict[str, int] = {}
    layer = "before"
    for entry in json.loads((engine / "layers.json").read_text("utf-8"))["Layers"]:
        match = re.search(r"layer\.(\d+)\.attention\.self\.(query|key|value)", entry["Name"])
        if match and entry["LayerType"] == "gemm":
            layer = match[1]
        counts[layer] = counts.get(layer, 0) + kernels_of([entry])
    return counts


@pytest.mark.slow
def test_an_int8_layer_has_at_most_two_kernels_more_than_fp16(engines: dict[str, Path]) -> None:
    half = kernels_by_layer(engines["fp16"])
    assert set("012345") <= set(half)
    for strategy in ("w8a8", "peg"):
        eight = kernels_by_layer(engines[strategy])
        more = {layer: eight[layer] - half[layer] for layer in "012345"}
        assert max(more.values()) <= 2, (strategy, more)
