"""Engines of every family, compiled by a real TensorRT without a GPU: TensorRT-RTX."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import qdeploy
from qdeploy.autotune.baseline import find_baseline
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.compilation import certify_compiled
from qdeploy.deploy.cuda import device
from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.open import open_engine
from qdeploy.deploy.options import CompileOptions
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.deploy.targets.tensorrt import ahead_of_time, dump, proof
from qdeploy.errors import PlanError, TargetError
from qdeploy.files.artifact import read_json, read_manifest
from tests.deploy.conftest import Source
from tests.deploy.family_cases import family_cases
from tests.deploy.test_tensorrt_contract import calls_of, fits, names_of, source_of
from tests.tiny import FAMILIES

rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
STRATEGIES = ("fp16", "w8a8", "peg", "fp8")
GROUPS = {"groups": 3, "outlier_channels": 2}


def built(where: Source, output: Path, strategy: str, **options: Any) -> dict[str, Any]:
    statistics = None if strategy == "fp16" else where.statistics
    usual: dict[str, Any] = {
        "target": "tensorrt-rtx",
        "compute_capability": "8.6",
        "measure": False,
    }
    build_engine(
        where.directory,
        output,
        strategy=strategy,
        statistics=statistics,
        **(usual | options),
    )
    found: dict[str, Any] = read_json(output / "certificate.json")
    return found


def compiled_again(engine: Path, certificate: dict[str, Any], capability: str) -> dict[str, Any]:
    """The certificate of a dry run's graph for another device."""
    manifest = read_manifest(engine, "engine")
    layers = proof.compile_graph(engine, manifest, CompileOptions(), (capability,))
    gemms = certificate["planned_gemms"]
    names = {name: [TraceName(*mark) for mark in gemm["marks"]] for name, gemm in gemms.items()}
    found = proof.compilation_of(layers, (capability,), names)
    told: Any = certify_compiled(found, certificate)  # type: ignore[arg-type]
    return dict(told)


@pytest.mark.parametrize(("family", "strategy"), family_cases(STRATEGIES, first="peg"))
def test_planned_gemms_of_every_family_are_compiled_so(
    family: str, strategy: str, source: Callable[[str], Source], tmp_path: Path
) -> None:
    engine = tmp_path / "engine"
    first, other = ("8.9", "12.0") if strategy == "fp8" else ("8.6", "8.9")
    certificate = built(source(family), engine, strategy, compute_capability=first, dry_run=True)
    check = certificate["compiled"]
    assert "int8" not in certificate  # nothing ran
    assert check["executed"] == check["planned"], check["fallbacks"]
    assert (check["planned"] > 0) == (strategy != "fp16")
    assert check["compute_capabilities"] == [first]
    if check["planned"]:
        name = "FP8" if strategy == "fp8" else "INT8"
        assert f"compiled as {name}" in check["summary"] and "nothing ran" in check["summary"]
        assert "ran in" not in check["summary"]
    again = compiled_again(engine, certificate, other)
    assert again["executed"] == again["planned"], again["fallbacks"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["w8a8", "peg"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_on_every_device(
    family: str, strategy: str, source: Callable[[str], Source], tmp_path: Path
) -> None:
    engine = tmp_path / "engine"
    options = GROUPS if strategy == "peg" else {}
    certificate = built(source(family), engine, strategy, dry_run=True, **options)
    for capability in proof.CAPABILITIES:
        check = compiled_again(engine, certificate, capability)
        assert check["executed"] == check["planned"] > 0, (capability, check["fallbacks"])


@pytest.mark.parametrize("capability", proof.CAPABILITIES)
def test_every_device_gets_int8(
    capability: str, source: Callable[[str], Source], tmp_path: Path
) -> None:
    options = GROUPS | {"compute_capability": capability}
    check = built(source("bert"), tmp_path / "engine", "peg", **options)["compiled"]
    assert check["executed"] == check["planned"] > 0, check["fallbacks"]


def test_the_directory_has_what_travels_and_no_graph(
    source: Callable[[str], Source], tmp_path: Path
) -> None:
    engine = tmp_path / "engine"
    built(source("bert"), engine, "peg", compute_capability=["8.9", "8.6"])
    names = {path.name for path in engine.iterdir()}
    assert {"model.plan", "builder.log", "layers.json", "certificate.json"} <= names
    assert not any(name.startswith("model.onnx") for name in names)
    manifest = read_manifest(engine, "engine")
    assert manifest["builder"] is not None
    assert manifest["builder"]["compute_capabilities"] == ["8.6", "8.9"]
    assert manifest["builder"]["tensorrt_rtx"] == rtx.__version__
    assert {"model.plan", "layers.json"} <= set(manifest["files"])
    readme = (engine / "README.md").read_text("utf-8")
    assert "were compiled as INT8" in readme and "nothing ran" in readme
    assert "of compute capability 8.6, 8.9" in readme
    assert "GEMMs ran in" not in readme


def test_without_named_devices_it_is_for_all(
    source: Callable[[str], Source], tmp_path: Path
) -> None:
    check = built(source("bert"), tmp_path / "engine", "w8a8", compute_capability=())["compiled"]
    assert tuple(check["compute_capabilities"]) == proof.CAPABILITIES


def test_the_devices_that_are_known_are_those_of_the_package() -> None:
    assert set(proof.CAPABILITIES) <= set(proof.known_capabilities())


def test_fp8_is_for_the_devices_that_multiply_it(
    source: Callable[[str], Source], tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match=r"FP8 needs 8\.9.*--strategy peg"):
        built(source("bert"), tmp_path / "older", "fp8", compute_capability="8.6,8.9")
    assert not (tmp_path / "older").exists()
    check = built(source("bert"), tmp_path / "engine", "fp8", compute_capability=())["compiled"]
    assert check["compute_capabilities"] == ["8.9", "12.0", "12.1"]
    assert check["executed"] == check["planned"] > 0


def test_fp32_is_for_the_devices_that_have_its_products(
    source: Callable[[str], Source], tmp_path: Path
) -> None:
    where = source("bert")
    build_engine(where.directory, tmp_path / "all", strategy="fp32", target="tensorrt-rtx")
    builder = read_manifest(tmp_path / "all", "engine")["builder"]
    assert builder is not None and "7.5" not in builder["compute_capabilities"]
    with pytest.raises(TargetError, match=r"7\.5: TensorRT-RTX has no FP32 products there.*fp16"):
        build_engine(
            where.directory,
            tmp_path / "older",
            strategy="fp32",
            target="tensorrt-rtx",
            compute_capability="7.5,8.6",
        )


@pytest.mark.parametrize(("word", "devices"), [("fp32", ["8.9"]), ("fp16", ["7.5", "8.9"])])
def test_a_baseline_is_for_the_engines_devices(
    word: str, devices: list[str], source: Callable[[str], Source], tmp_path: Path
) -> None:
    where = source("bert")
    built(where, tmp_path / "engine", "w8a8", compute_capability="7.5,8.9")
    found = find_baseline(tmp_path / "engine", word, model=where.directory)
    builder = read_manifest(found, "engine")["builder"]
    assert builder is not None and builder["compute_capabilities"] == devices


def test_a_search_that_times_engines_needs_the_gpu(
    source: Callable[[str], Source], tmp_path: Path
) -> None:
    if TARGETS["tensorrt-rtx"].runs_here():
        pytest.skip("there is a GPU here")
    options: dict[str, Any] = {"target": "tensorrt-rtx", "strategy": "auto"}
    with pytest.raises(TargetError, match=r"times engines.*no GPU here.*--strategy peg"):
        qdeploy.build(source("bert").directory, tmp_path / "e", **options)
    assert not (tmp_path / "e").exists()


def test_devices_without_figures_get_no_estimate(
    source: Callable[[str], Source], tmp_path: Path
) -> None:
    for capability, told in (("12.0", False), ("8.9", True)):
        home = tmp_path / capability
        built(source("bert"), home, "w8a8", compute_capability=capability)
        assert bool(read_manifest(home, "engine").get("estimate")) == told


def test_a_readme_of_a_dry_run_has_commands_that_work(
    source: Callable[[str], Source], tmp_path: Path
) -> None:
    built(source("bert"), tmp_path / "e", "w8a8", dry_run=True)
    readme = (tmp_path / "e" / "README.md").read_text("utf-8")
    assert "qdeploy eval . --simulate" in readme
    assert "model.plan" not in readme and "qdeploy.load" not in readme


def test_a_device_that_is_not_known_is_refused_and_leaves_nothing(
    source: Callable[[str], Source], tmp_path: Path
) -> None:
    with pytest.raises(
        TargetError, match=r"9\.0: TensorRT-RTX does not build for that.*8\.9, 12\.0"
    ):
        built(source("bert"), tmp_path / "engine", "w8a8", compute_capability="9.0")
    assert not (tmp_path / "engine").exists()
    with pytest.raises(PlanError, match=r"--compute-capability 'sm86' is none.*8\.6"):
        CompileOptions(compute_capability="sm86")


def test_running_it_needs_the_gpu(source: Callable[[str], Source], tmp_path: Path) -> None:
    try:
        device()
    except TargetError:
        built(source("bert"), tmp_path / "engine", "w8a8")
        with pytest.raises(TargetError, match=r"compute capability 8\.6.*--dry-run.*--simulate"):
            open_engine(tmp_path / "engine")
    else:
        pytest.skip("there is a GPU here")


def test_a_dry_run_for_tensorrt_is_compiled_too(
    source: Callable[[str], Source], tmp_path: Path
) -> None:
    options = {"target": "tensorrt", "compute_capability": (), "dry_run": True}
    certificate = built(source("bert"), tmp_path / "engine", "peg", **options)
    check = certificate["compiled"]
    assert check["executed"] == check["planned"] > 0
    assert check["compiler"] == f"TensorRT-RTX {rtx.__version__}"
    assert (tmp_path / "engine" / "model.onnx").is_file()


def test_the_doctor_tells_building_from_running() -> None:
    found = TARGETS["tensorrt-rtx"].diagnose()
    assert found.builds
    assert "builds engines here, with INT8 GEMMs" in found.detail
    if not found.works:
        assert "They do not run here" in found.detail
        assert found.remedy


def test_every_name_that_is_used_is_of_the_package() -> None:
    names = names_of(source_of()) | names_of(Path(ahead_of_time.__file__).read_text("utf-8"))
    others = {"ITimingCache.serialize"}  # not called there: timings are taken on the device
    for name in names - others:
        value: Any = rtx
        for part in name.split("."):
            assert hasattr(value, part), name
            value = getattr(value, part)


def test_arguments_are_those_of_the_signatures() -> None:
    calls = calls_of(source_of() + Path(ahead_of_time.__file__).read_text("utf-8"))
    assert "IRuntimeConfig.set_runtime_cache" in calls
    for name in calls:
        value: Any = rtx
        for part in name.split("."):
            value = getattr(value, part)
        for call in calls[name]:
            assert fits(value.__doc__, name.split(".")[-1], *call), (name, call)


def test_properties_that_are_set_can_be_set() -> None:
    for kind, name in (
        ("IBuilderConfig", "num_compute_capabilities"),
        ("IBuilderConfig", "profiling_verbosity"),
        ("IRuntimeConfig", "dynamic_shapes_kernel_specialization_strategy"),
    ):
        assert vars(getattr(rtx, kind))[name].fset is not None


def test_a_list_of_layers_in_another_form_is_an_error() -> None:
    with pytest.raises(TargetError, match="nothing can be proved"):
        dump.layers_json("", "TensorRT-RTX")
    with pytest.raises(TargetError, match="in a form that is not known"):
        dump.layers_json("Layers:\nName: a, Kind: gemm", "TensorRT-RTX")


def test_names_with_brackets_braces_and_line_ends_are_read() -> None:
    tensor = (
        "{ Name: a, b{1}, Dimensions: [-1,384], Strides: [384,1], StrideOrder: [1,0], "
        "Datatype: Int8, Format: (Linear) Row major linear format }"
    )
    jump = (
        f"Name: b, LayerType: cjmp, Inputs: [ {tensor}], Constants: [], Outputs: [], TacticName: , "
        "StreamId: 0, JumpTargetThen: t_0, JumpTargetElse: e_1, Metadata: [ONNX Layer: if]"
    )
    line = (
        f"Name: x, LayerType: y, z, LayerType: gemm, Inputs: [ {tensor}, {tensor}], Constants: [], "
        f"Outputs: [ {tensor}], TacticName: , StreamId: 0, Metadata: [ONNX Layer: p | q]"
    )
    text = f"Layers:\n{jump}\n{line}\n[ONNX Layer: r]\n\nI/O Tensors:\n Name: input_ids"
    branch, entry = json.loads(dump.layers_json(text, "T"))["Layers"]
    assert branch["LayerType"] == "cjmp" and dump.kernels_of([branch]) == 0
    assert entry["Name"] == "x, LayerType: y, z" and entry["LayerType"] == "gemm"
    assert [t["Dimensions"] for t in entry["Inputs"]] == [[-1, 384]] * 2
    assert entry["Inputs"][0]["Name"] == "a, b{1}"
    assert entry["Metadata"] == "[ONNX Layer: p | q]\n[ONNX Layer: r]"


def test_only_this_folder_knows_the_bindings() -> None:
    """`source_of` and `ahead_of_time` are the files whose names are held against the package."""
    home = Path(ahead_of_time.__file__).parent
    users = {
        path.name
        for path in home.glob("*.py")
        if "import tensorrt as trt" in path.read_text("utf-8")
        and ast.parse(path.read_text("utf-8"))
    }
    assert users == {"ahead_of_time.py", "api.py", "builder.py", "opened.py"}
