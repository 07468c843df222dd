"""Estimates of a compiled engine's time: the work that is counted, and what must hold of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qdeploy.deploy.build import build_engine
from qdeploy.deploy.roofline.devices import DEVICES, device_named
from qdeploy.deploy.roofline.estimate import FITTED, estimate, memory_us, peak_of
from qdeploy.deploy.roofline.geometry import Product, Work, works
from qdeploy.deploy.roofline.summary import NOTE, USUAL, estimates, told
from qdeploy.errors import TargetError
from qdeploy.files.artifact import read_json, read_manifest
from tests.deploy.conftest import Source
from tests.tiny import FAMILIES, HIDDEN, LAYERS
from tests.tiny import HEADS as HEAD_COUNT

STRATEGIES = ("fp16", "w8a8", "peg")
HALF = {"Datatype": "Half", "Format": "(Linear) Row major linear format"}


def tensor(name: str, dims: list[int], strides: list[int], **fields: str) -> dict[str, Any]:
    return HALF | {"Name": name, "Dimensions": dims, "Strides": strides} | fields


def listed(*entries: dict[str, Any]) -> str:
    empty = {"LayerType": "kgen", "TacticName": "", "Metadata": "", "Constants": [], "Inputs": []}
    return json.dumps({"Layers": [empty | entry for entry in entries]})


def built(where: Source, output: Path, strategy: str, shape: str) -> str:
    """Build for compute capability 8.6; its layers."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    build_engine(
        where.directory,
        output,
        strategy=strategy,
        statistics=None if strategy == "fp16" else where.statistics,
        target="tensorrt-rtx",
        compute_capability="8.6",
        opt_shape=shape,
        measure=False,
    )
    return (output / "layers.json").read_text("utf-8")


def counted(output: Path) -> int:
    """Operations of all products with a constant weight, as the graph's own run counts them."""
    certificate = read_json(output / "certificate.json")
    products = {**certificate["planned_gemms"], **certificate["other_products"]}
    return sum(product["flops"] for product in products.values())


# A layer of an encoder: hidden size 64, 2 heads, as TensorRT-RTX 1.7 lists them.
EMBEDDED = {
    "Name": "embed",
    "Inputs": [tensor("input_ids", [-1, -1], [-1, 1], Datatype="Int64")],
    "Constants": [tensor("table", [1000, 64], [64, 1])],
    "Outputs": [tensor("x", [-1, -1, 64], [-1, 64, 1])],
}
QKV = {
    "Name": "q+k+v",
    "LayerType": "gemm",
    "Inputs": [tensor("x", [-1, 64], [64, 1], Datatype="Int8")],
    "Constants": [tensor("w", [64, 192], [192, 1], Datatype="Int8")],
    "Outputs": [tensor("qkv", [-1, 192], [192, 1])],
}
HEADS = [
    {
        "Name": f"move {at}",
        "Inputs": [tensor("qkv", [-1, 64], [192, 1])],
        "Outputs": [tensor(f"head {at}", dims, strides)],
    }
    for at, (dims, strides) in enumerate(
        [([-1, -1, 32], [32, -1, 1]), ([-1, 32, -1], [32, 1, -1]), ([-1, -1, 32], [32, -1, 1])]
    )
]
ATTENTION = {
    "Name": "_gemm_mha_v2_myl0_7",
    "TacticName": "_gemm_mha_v2_0x58d0",
    "Inputs": [
        tensor("mask", [-1, 1, 1, -1], [-1, -1, -1, 1], Datatype="Bool"),
        *(entry["Outputs"][0] for entry in HEADS),
    ],
    "Outputs": [tensor("context", [-1, -1, 32], [32, -1, 1])],
}
FIRST = {
    "Name": "first token",
    "Inputs": [tensor("context", [-1, -1, 64], [-1, 64, 1])],
    "Outputs": [tensor("first", [-1, 1, 64], [64, 64, 1])],
}
HEAD = {
    "Name": "__myl_FcAdd_myl0_9",
    "LayerType": "runtime_fusion",
    "Inputs": [tensor("first", [-1, 64], [64, 1])],
    "Constants": [tensor("b", [1, 2], [2, 1]), tensor("c", [64, 2], [1, 64])],
    "Outputs": [tensor("logits", [-1, 2], [2, 1], Datatype="Float")],
}
ENCODER = listed(
    {"Name": "sizes", "LayerType": "shape_call", "Outputs": []},
    *(EMBEDDED, QKV, *HEADS, ATTENTION, FIRST, HEAD),
)


@pytest.mark.parametrize(("rows", "tokens"), [(1, 16), (3, 40)])
def test_work_of_every_layer_by_hand(rows: int, tokens: int) -> None:
    embed, qkv, *heads, attention, first, head = works(ENCODER, rows, tokens)
    lines = rows * tokens
    assert embed.moved == lines * 8 + lines * 64 * 2
    assert embed.constant == min(1000, lines) * 64 * 2  # the rows that are looked up
    assert qkv.products == (Product(1, lines, 192, 64),)
    assert (qkv.kind, qkv.precision) == ("gemm", "int8")
    assert qkv.moved == lines * (64 + 2 * 192)
    assert qkv.constant == 64 * 192
    # a third of the tensor that holds all three, read and written
    assert [work.moved for work in heads] == [2 * lines * 64 * 2] * 3
    assert attention.flops == 4 * rows * 2 * tokens * tokens * 32
    assert (attention.kind, attention.precision) == ("attention", "fp16")
    assert attention.moved == rows * tokens + 4 * lines * 64 * 2
    assert first.flops == 0 and first.moved == (lines + rows) * 64 * 2
    assert head.products == (Product(1, rows, 2, 64),)


def test_fp8_by_any_of_its_names() -> None:
    for name in ("FP8", "Fp8E4M3", "FLOAT8E4M3FN"):
        layer = QKV | {
            "Inputs": [tensor("x", [-1, 64], [64, 1], Datatype=name)],
            "Constants": [tensor("w", [64, 192], [192, 1], Datatype=name)],
        }
        (_, found) = works(listed(EMBEDDED, layer), 1, 16)
        assert found.precision == "fp8"
        assert found.constant == 64 * 192
    assert peak_of(device_named("RTX 3050"), "fp8") == device_named("RTX 3050").fp16
    assert peak_of(device_named("RTX 4090"), "fp8") > device_named("RTX 4090").fp16


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_figures_of_devices_agree_with_each_other(device: Any) -> None:
    assert "white paper" in device.source or "data sheet" in device.source
    # operations an SM does in a clock, of tensor cores of INT8: one of three generations
    rate = device.int8 * 1e6 / (device.sms * device.clocks[1])
    assert min(abs(rate / known - 1) for known in (2048, 4096, 8192)) < 0.03, rate
    assert device.int8 / device.fp16 == pytest.approx(2, rel=0.02) or "RTX" in device.name
    assert 0 < device.clocks[0] < device.clocks[1]
    assert (device.fp8 is not None) == (device.capability >= "8.9")
    assert device_named(device.name) is device


def test_a_device_without_figures_is_named() -> None:
    with pytest.raises(TargetError, match=r"no figures of 'V100'.*RTX 3050"):
        device_named("V100")


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_more_rows_take_no_less_time(device: Any) -> None:
    times = [estimate(works(ENCODER, rows, 64), device).ms for rows in (1, 2, 8, 64, 512, 4096)]
    assert times == sorted(times)
    assert times[-1] > 2 * times[0]


def test_bounds_are_of_what_takes_the_most() -> None:
    device = device_named("A100")
    large = Work("large", "gemm", "int8", (Product(1, 16384, 4096, 4096),), 10**6, 0)
    wide = Work("wide", "other", "", (), 10**9, 0)
    small = Work("small", "other", "", (), 1000, 0)
    found = estimate([large, wide, small], device)
    assert [layer.bound for layer in found.layers] == ["compute", "memory", "launch"]
    assert sum(found.ms_by_bound().values()) == pytest.approx(found.ms)
    launch = FITTED.launch_cycles / device.clocks[1]
    assert found.layers[1].us == pytest.approx(10**9 / (1555e3 * FITTED.memory) + launch)
    # never faster than the peak
    assert found.layers[0].us > large.flops / (device.int8 * 1e6)


def test_what_fits_the_cache_moves_faster() -> None:
    work = Work("other", "other", "", (), 10**6, 10**6)
    device = device_named("A100")
    some, all_ = (memory_us(work, device, FITTED, resident=resident) for resident in (False, True))
    assert some == pytest.approx((1 / FITTED.cache + 1) * 1e6 / (1555e3 * FITTED.memory))
    assert all_ == pytest.approx(2 * 1e6 / (1555e3 * FITTED.memory * FITTED.cache))


def test_no_run_is_faster_than_its_products_at_the_base_clock() -> None:
    device = device_named("T4")
    work = Work("large", "gemm", "fp16", (Product(1, 8192, 8192, 8192),), 1, 0)
    seconds = estimate([work], device).ms / 1e3
    assert work.flops / seconds / 1e12 == pytest.approx(24, rel=0.01)  # as was measured: see there


def test_few_devices_are_told_and_they_are_the_engines() -> None:
    assert [device.name for device in told(["8.6"])] == ["RTX 3050", "RTX 3060", "A10"]
    assert told(["12.0"]) == ()  # none of the table: an estimate of others would be of no use
    assert estimates(ENCODER, ["12.0"], (8, 128)) is None
    assert [device.name for device in told(["7.5", "8.0", "8.6", "8.9"])] == [*USUAL]
    found = estimates(ENCODER, ["8.0"], (8, 128))
    assert found is not None
    assert set(found["estimated_ms"]) == {"A30", "A100"}
    assert found["shape"] == [8, 128]
    assert "estimate" in NOTE and "not measured" in found["note"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_products_of_an_engine_are_those_of_its_graph(
    strategy: str, bert: Source, tmp_path: Path
) -> None:
    rows, tokens, width, heads, layers = 8, 32, HIDDEN, HEAD_COUNT, LAYERS
    found = works(built(bert, tmp_path / "engine", strategy, "8x32"), rows, tokens)
    # of the last layer's queries one a row is left; unfused attention is two products beside
    attention = 4 * rows * heads * (tokens * (layers - 1) + 1) * tokens * (width // heads)
    flops = sum(work.flops for work in found)
    assert flops == pytest.approx(counted(tmp_path / "engine") + attention, rel=0.01)
    certificate = read_json(tmp_path / "engine" / "certificate.json")
    assert len(found) == certificate["compiled"]["launches"]
    precisions = {work.precision for work in found if work.kind == "gemm"}
    assert precisions == {"fp16"} if strategy == "fp16" else "int8" in precisions


@pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")  # of GEMMs in float
@pytest.mark.parametrize("family", FAMILIES)
def test_engines_of_every_family_have_an_estimate(
    family: str, source: Callable[[str], Source], tmp_path: Path
) -> None:
    layers = built(source(family), tmp_path / "engine", "w8a8", "8x128")
    found = read_manifest(tmp_path / "engine", "engine")["estimate"]
    assert set(found) == {"note", "shape", "estimated_ms"} and found["shape"] == [8, 128]
    assert set(found["estimated_ms"]) == {"RTX 3050", "RTX 3060", "A10"}
    assert all(0 < ms < 10 for ms in found["estimated_ms"].values())
    for rows, tokens in ((8, 128), (2, 16)):
        flops = sum(work.flops for work in works(layers, rows, tokens))
        least = counted(tmp_path / "engine") * rows * tokens / (8 * 128)
        # beside them: attention, and its positions
        assert 0.7 * least <= flops <= 2 * least


def test_a_dry_run_for_tensorrt_has_one_where_the_compiler_is(bert: Source, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    made = build_engine(
        bert.directory, tmp_path / "dry", target="tensorrt", strategy="fp16", dry_run=True
    )
    assert made["estimate"]["shape"] == [8, min(128, made["max_length"])]
