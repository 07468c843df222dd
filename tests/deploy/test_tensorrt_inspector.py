"""The engine inspector's JSON of TensorRT 10 and 11 as kernels of a certificate.

The samples in `inspector/` are written after NVIDIA's documentation of the Engine Inspector (10.16)
and of its migration to 11; no engine was at hand.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qdeploy.deploy.lowering.lowered import TraceName
from qdeploy.deploy.tally import tally
from qdeploy.deploy.targets.tensorrt import inspector
from qdeploy.errors import ModelError

SAMPLES = Path(__file__).parent / "inspector"
QKV = "layer_0_query+layer_0_key+layer_0_value_myl0_3"


def text(version: int) -> str:
    return (SAMPLES / f"tensorrt{version}.json").read_text("utf-8")


def by_name(version: int) -> dict[str, inspector.Layer]:
    return {layer.name: layer for layer in inspector.layers(text(version))}


@pytest.mark.parametrize("version", [10, 11])
def test_metadata_come_with_raw_control_characters(version: int) -> None:
    with pytest.raises(json.JSONDecodeError, match="control character"):
        json.loads(text(version))
    assert {"layer.0.query", "layer.0.key", "layer.0.value"} <= set(by_name(version)[QKV].nodes)


@pytest.mark.parametrize("version", [10, 11])
def test_a_merged_gemm_stands_for_all_its_nodes(version: int) -> None:
    layers = by_name(version)
    assert layers[QKV].int8
    assert not layers["layer_0_intermediate_myl0_9"].int8


@pytest.mark.parametrize(
    ("name", "int8", "says"),
    [
        ("__myl_FcMulAdd_myl0_5", True, ""),  # the kernel of a fused layer says so
        ("layer.0.output", True, ""),  # a convolution with int8 weights
        ("__myl_MulQuan_myl0_1", False, "TensorRT reads Half"),  # it writes int8 and reads FP16
        ("__myl_FcCastMul_myl0_10", False, "__myl_FcCastMul_0x9d does not prove INT8"),
        ("__myl_Add_myl0_11", False, "TensorRT reads Int8, Int8"),  # a sum of codes, no product
        ("_gemm_mha_v2_myl0_4", False, "TensorRT reads Half, Half, Half"),
    ],
)
def test_what_is_called_int8(name: str, int8: bool, says: str) -> None:
    layer = by_name(10)[name]
    assert layer.int8 == int8
    assert says in layer.fallback_reason
    assert bool(layer.fallback_reason) != int8


@pytest.mark.parametrize(
    ("tactic", "int8"),
    [
        ("sm75_imma_128x128_ldg16_relu", True),
        ("cutlass_80_tensorop_i16832gemm_s8_128x128_128x3_tn_align16", True),
        ("sm90_xmma_gemm_s8s8_s32_f32", True),
        ("sm90_xmma_gemm_e4m3e4m3_f32", False),
        ("sm80_xmma_gemm_f16f16_f16f32", False),
        ("cutlass_80_tensorop_f16_s16816gemm_f16", False),
        ("sm80_xmma_gemm_tf32", False),
    ],
)
def test_names_of_kernels(tactic: str, int8: bool) -> None:
    entry = {"Name": "g", "LayerType": "gemm", "Inputs": [], "TacticName": tactic}
    (layer,) = inspector.layers(json.dumps({"Layers": [entry]}))
    assert (layer.multiplies, layer.int8) == (True, int8)


def layer(kind: str, tactic: str, *inputs: str, weights: str = "") -> inspector.Layer:
    entry: dict[str, Any] = {"Name": "g", "LayerType": kind, "TacticName": tactic}
    entry["Inputs"] = [{"Name": "x", "Format/Datatype": name} for name in inputs]
    if weights:
        entry["Weights"] = {"Type": weights, "Count": 64}
    (found,) = inspector.layers(json.dumps({"Layers": [entry]}))
    return found


def test_the_letters_of_a_product_within_other_words_are_none() -> None:
    """ErfCast holds "fc": such a kernel stands behind a GEMM, and hid it."""
    assert not layer("kgen", "__myl_MulAddDivCastErfCastAddMul_0x85fc_vec", "Half").multiplies
    assert not layer("kgen", "__myl_MinMaxRounReplConcCast_0x2ac2", "Half").multiplies
    assert layer("kgen", "__myl_AddFcMul_0x1", "Half").multiplies


@pytest.mark.parametrize(
    "claimed",
    [
        layer("gemm", "sm80_xmma_gemm_f16f16_f16f32", "Int8", "Int8"),  # its own name says FP16
        layer("CaskGemmMatrixMultiply", "sm90_xmma_gemm_f16f16_f16f32_f32_tn", "Int8", "Int8"),
        layer("CaskGemmConvolution", "weird", "Half", "Int8 residual", weights="Int8"),
        layer("kgen", "__myl_FcDimMax_0x1", "Half"),  # "imma" within a word
        layer("kgen", "__myl_MulAddDivCastErfCastAddMul_0x85fc_vec", "Int8"),  # "fc" within two
        layer("gemm", "cutlass_f16_i16832gemm_s8_f16_mixed", "Half"),
        layer("gemm", "sm80_xmma_gemm_i8i8_i8i32_f32", "Half", "Half"),  # nothing in int8 comes in
        layer("gemm", "0x1a2b", "Int8"),
        layer("gemm", "0x1a2b", "Int8", "Half"),
        layer("kgen", "0x1a2b", "Int8", "Int8"),
    ],
    ids=lambda found: f"{found.kind} {found.tactic}",
)
def test_what_does_not_prove_int8(claimed: inspector.Layer) -> None:
    assert not claimed.int8
    assert claimed.fallback_reason


def test_plain_products_of_two_int8_tensors() -> None:
    assert layer("gemm", "0x1a2b", "Int8", "Int8").int8
    assert layer("CaskGemmConvolution", "0x1a2b", "Int8", "Half", weights="Int8").int8


def test_attention_beside_a_product_does_not_speak_for_it() -> None:
    """The sample's fused attention names a query GEMM too; only the GEMM counts."""
    layers = inspector.layers(text(10))
    ran = inspector.kernels(layers, {})
    (kernel,) = inspector.of_gemms(layers, ran, {"q": [TraceName("w", "layer.0.query")]})["q"]
    assert kernel.name == QKV and kernel.int8


@pytest.mark.parametrize("version", [10, 11])
def test_the_certificate_counts_what_ran(version: int) -> None:
    layers = inspector.layers(text(version))
    ran = inspector.kernels(layers, {QKV: [0.25, 0.35]})
    trace_names = {
        "layer.0.query": [TraceName("w", "layer.0.query")],
        "layer.0.intermediate": [TraceName("w", "layer.0.intermediate")],
        "layer.1.query": [TraceName("w", "layer.1.nowhere")],
    }
    found = inspector.of_gemms(layers, ran, trace_names)
    assert [k.ms for k in found["layer.0.query"]] == [pytest.approx(0.3)]
    gemm: Any = {"precision": "int8", "reason": "", "flops": 10, "float_flops": 0}
    report = tally(dict.fromkeys(trace_names, gemm), found, 1.0)
    assert (report["planned"], report["executed"]) == (3, 1)
    reasons = {f["site"]: f["reason"] for f in report["fallbacks"]}
    assert reasons["layer.0.intermediate"].startswith("TensorRT reads")
    assert "no kernel" in reasons["layer.1.query"]


def test_a_gemm_in_parts_needs_all_of_them() -> None:
    layers = inspector.layers(text(10))
    ran = inspector.kernels(layers, {})
    parts = {"g": [TraceName("w", "layer.0.query"), TraceName("v", "layer.0.query/part2")]}
    assert inspector.of_gemms(layers, ran, parts) == {"g": []}


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("a/b + c.d", ("a/b", "c.d")),
        ("layer_0_query/mm+layer_0_key/mm_myl0_16", ("layer_0_query/mm", "layer_0_key/mm")),
        ("{ForeignNode[a.b...c.d]}", ("a.b", "c.d")),
    ],
)
def test_names_in_a_fused_layers_name_stand_in_for_missing_metadata(
    name: str, nodes: tuple[str, ...]
) -> None:
    sample = {"Layers": [{"Name": name, "LayerType": "gemm", "Inputs": []}], "Bindings": []}
    (layer,) = inspector.layers(json.dumps(sample))
    assert layer.nodes == nodes and layer.guessed


def test_signs_do_not_matter_in_names_of_layers_and_do_in_metadata() -> None:
    entry = {"Name": "layer_0_query_myl0_1", "LayerType": "gemm", "Inputs": []}
    for metadata, found in (("", 1), ("[ONNX Layer: layer_0_query]", 0)):
        layers = inspector.layers(json.dumps({"Layers": [entry | {"Metadata": metadata}]}))
        ran = inspector.kernels(layers, {})
        trace_names = {"g": [TraceName("w", "layer.0.query")]}
        assert len(inspector.of_gemms(layers, ran, trace_names)["g"]) == found


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ("{}", "gave no layers"),
        ("not json", "gave no layers"),
        ('{"Layers": ["a", "b"], "Bindings": []}', "without detailed verbosity"),
    ],
)
def test_what_says_nothing_is_refused(sample: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        inspector.layers(sample)
