"""The target openvino: kernels from its runtime model, values as ONNX Runtime has them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qdeploy.calibrate.affine import Affine
from qdeploy.calibrate.plan import Grouped, PerTensor
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.certificate import check_int8
from qdeploy.deploy.open import open_engine
from qdeploy.deploy.tally import tally
from qdeploy.deploy.targets.openvino import engine as openvino_engine
from qdeploy.deploy.targets.openvino.lower import lower
from qdeploy.deploy.targets.ort_cpu.lower import lower as lower_ort_cpu
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import DataError, ModelError, TargetError
from qdeploy.files.artifact import read_json
from qdeploy.graph.sites import find_structure
from qdeploy.machine.remedies import install_command
from tests.deploy.conftest import Built, Source, sqnr_db
from tests.deploy.layer import one_layer, scale_of_two, seen_by_layer
from tests.deploy.lowering_contract import share_that_differs
from tests.deploy.tolerances import OPENVINO, TIES
from tests.deploy.toys import plan_of, planned, run, saved
from tests.deploy.treated_gemm import X
from tests.tiny import FAMILIES, LAYERS

pytest.importorskip("openvino")
Array = npt.NDArray[Any]


@pytest.mark.parametrize("form", ["grouped", "outliers"])
def test_columns_behind_an_activation_function_keep_their_values(form: str, tmp_path: Path) -> None:
    """The first GEMM comes in blocks of columns, all INT8, and no activation is sliced."""
    model, arrays = one_layer()
    structure = find_structure(model)
    seen = seen_by_layer(arrays)
    inputs = [gemm.input for gemm in structure.gemms]
    treatments = {name: scale_of_two(seen[name], form) for name in inputs if name == "gelu.out"}
    treatments |= {n: scale_of_two(seen[n], "per tensor") for n in inputs if n != "gelu.out"}
    plan = plan_of(structure, treatments)
    lowered = lower(model, plan, structure)
    assert not {"Slice", "Gather"} & {node.op_type for node in lowered.model.graph}
    assert len(lowered.trace_names["first"]) == 2
    engine = openvino_engine.OpenVinoEngine(saved(lowered.model, tmp_path / "m.onnx"), threads=1)
    found = engine.run({"x": X})["y"]
    there = lower_ort_cpu(one_layer()[0], plan, structure).model
    (expected,) = run(there, tmp_path / "there.onnx", {"x": X})
    assert share_that_differs(found, expected, OPENVINO) <= TIES
    trace = engine.trace_gemms(lowered.trace_names, {"x": X}, 1)
    report = tally(planned(plan, structure, lowered.trace_names), trace.gemms, trace.ms)
    assert report["executed"] == report["planned"] == 3


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("times", [2, 64])
def test_blocks_of_one_column_stay_products(count: int, times: int, tmp_path: Path) -> None:
    """A group of one channel, as repeated rows and as a slim GEMM of its own."""
    model, arrays = one_layer()
    structure = find_structure(model)
    seen = seen_by_layer(arrays)
    treatments = {g.input: scale_of_two(seen[g.input], "per tensor") for g in structure.gemms}
    whole = treatments["gelu.out"]
    assert isinstance(whole, PerTensor)
    alone = tuple(range(3, 3 + count))
    rest = tuple(c for c in range(seen["gelu.out"].shape[-1]) if c not in alone)
    coarse = Affine(whole.affine.scale * times, 128)
    treatments["gelu.out"] = Grouped((rest, alone), (whole.affine, coarse))
    plan = plan_of(structure, treatments)
    lowered = lower(model, plan, structure)
    assert len(lowered.trace_names["second"]) == (1 if times == 2 else 2)
    engine = openvino_engine.OpenVinoEngine(saved(lowered.model, tmp_path / "m.onnx"), threads=1)
    trace = engine.trace_gemms(lowered.trace_names, {"x": X}, 1)
    report = tally(planned(plan, structure, lowered.trace_names), trace.gemms, trace.ms)
    assert (report["executed"], report["fallbacks"]) == (3, [])
    there = lower_ort_cpu(one_layer()[0], plan, structure).model
    (expected,) = run(there, tmp_path / "there.onnx", {"x": X})
    found = engine.run({"x": X})["y"]
    assert share_that_differs(found, expected, OPENVINO) <= TIES


def test_keys_are_transposed_in_two_steps(engine: Callable[..., Built]) -> None:
    """So that OpenVINO's attention kernel takes both in; the values are compared above."""
    built = engine("bert", strategy="w8a8", target="openvino")
    graph = ir.load(built.directory / "model.onnx").graph
    orders = [list(n.attributes["perm"].value) for n in graph if n.op_type == "Transpose"]
    assert orders.count([0, 1, 3, 2]) == LAYERS
    assert [0, 2, 3, 1] not in orders


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("strategy", ["peg", "w8a8"])
def test_every_family_runs_in_int8_and_agrees_with_onnx_runtime(
    family: str, strategy: str, engine: Callable[..., Built], source: Callable[[str], Source]
) -> None:
    built = engine(family, strategy=strategy, target="openvino")
    int8 = built.report["int8"]
    assert int8["executed"] == int8["planned"] >= 4 * LAYERS
    assert not int8["fallbacks"]
    feeds = source(family).feeds()
    here = open_engine(built.directory, threads=1).run(feeds)["logits"]
    same = {"prescale": "everywhere"} if strategy == "peg" else {}  # what openvino takes by itself
    there = engine(family, strategy=strategy, **same).directory
    assert np.isfinite(here).all()
    exact = open_engine(engine(family, strategy="fp32").directory, threads=1).run(feeds)["logits"]
    ours, theirs = (
        sqnr_db(exact, logits)
        for logits in (here, open_engine(there, threads=1).run(feeds)["logits"])
    )
    assert abs(ours - theirs) < 3  # the same plan in another order of sums: the same noise


@pytest.mark.parametrize("activations", ["asymmetric", "symmetric"])
def test_scope_all(activations: str, engine: Callable[..., Built]) -> None:
    options = {"groups": 3, "scope": "all", "activations": activations}
    int8 = engine(strategy="peg", target="openvino", **options).report["int8"]
    assert int8["executed"] == int8["planned"]


def test_the_rest_in_bf16_is_said_and_done(engine: Callable[..., Built], bert: Source) -> None:
    built = engine(strategy="w8a8", target="openvino", rest_precision="bf16")
    assert read_json(built.directory / "qdeploy.json")["rest_precision"] == "bf16"
    running = open_engine(built.directory, threads=1)
    assert running.rest == "bf16"  # type: ignore[attr-defined]
    report = check_int8(built.directory, running, bert.feeds(2))
    assert report["executed"] == report["planned"]


def test_what_ran_in_float_is_a_fallback(engine: Callable[..., Built], bert: Source) -> None:
    """An FP32 engine under the plan of an INT8 one."""
    directory = engine(strategy="fp32", target="openvino").directory
    gemms = read_json(directory / "certificate.json")["planned_gemms"]
    for gemm in gemms.values():
        gemm["precision"] = "int8"
    trace = open_engine(directory, threads=1).trace_gemms(
        {name: gemm["marks"] for name, gemm in gemms.items()}, bert.feeds(2)
    )
    report = tally(gemms, trace.gemms, trace.ms)
    assert (report["executed"], report["flops_share"]) == (0, 0.0)
    assert len(report["fallbacks"]) == report["planned"] == len(gemms)
    for fallback in report["fallbacks"]:
        assert fallback["reason"].startswith("OpenVINO computes it in f32 (")


def test_ranges_at_run_time_are_refused(bert: Source, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"strategy dynamic\)\. Build w8a8 or peg"):
        build_engine(bert.directory, tmp_path / "e", strategy="dynamic", target="openvino")
    assert not (tmp_path / "e").exists()


def test_a_rest_precision_that_the_target_lacks(bert: Source, tmp_path: Path) -> None:
    for target, wanted in (("ort-cpu", "bf16"), ("openvino", "f16")):
        with pytest.raises(
            TargetError, match=f"{target} computes what is not INT8 in f32.*{wanted}"
        ):
            build_engine(
                bert.directory,
                tmp_path / "e",
                strategy="fp32",
                target=target,
                rest_precision=wanted,
            )


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match=r"m\.onnx does not compile in OpenVINO"):
        openvino_engine.OpenVinoEngine(tmp_path / "m.onnx")


def test_a_missing_input_is_named(engine: Callable[..., Built], bert: Source) -> None:
    running = open_engine(engine(strategy="w8a8", target="openvino").directory, threads=1)
    feeds = bert.feeds(1)
    del feeds["attention_mask"]
    with pytest.raises(DataError, match="The engine needs the inputs attention_mask"):
        running.run(feeds)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(TargetError, match=re.escape(install_command("openvino"))):
        openvino_engine.compile_file(tmp_path / "m.onnx", threads=1)
    health = TARGETS["openvino"].diagnose()
    assert not health.works
    assert install_command("openvino", options="--upgrade") in health.remedy
    with pytest.raises(TargetError, match="openvino cannot be imported"):  # before anything is read
        build_engine(tmp_path / "no model", tmp_path / "engine", target="openvino")


ENGINE = "from qdeploy.deploy.open import open_engine; make = lambda: open_engine(home, threads=1)"
SCRIPT = "sys.path.insert(0, str(home)); from predict import Model; make = lambda: Model(1)"


@pytest.mark.parametrize("making", [ENGINE, SCRIPT], ids=["engine", "predict.py"])
def test_a_signal_behind_freed_engines_is_an_interrupt(
    making: str, engine: Callable[..., Built]
) -> None:
    """Two freed in the order in which they were made would leave signals a stack that is gone."""
    code = f"""
import gc, signal, sys
from pathlib import Path
home = Path(sys.argv[1])
{making}
first, second = make(), make()
del first
gc.collect()
del second
gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    home = engine(strategy="w8a8", target="openvino").directory
    command = [sys.executable, "-c", code, str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_doctor_sees_the_int8_kernel() -> None:
    health = TARGETS["openvino"].diagnose()
    assert health.works, health.detail
    assert "FullyConnected" in health.detail
