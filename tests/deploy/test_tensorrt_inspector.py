"""The engine inspector's JSON of TensorRT 10 and 11 as kernels of a certificate.

The samples in `inspector/` are written after NVIDIA's documentation of the Engine Inspector (10.16)
and of its migration to 11; no engine was at hand.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qdeploy.deploy import tensorrt_inspector as inspector
from qdeploy.deploy.certificate import tally
from qdeploy.errors import ModelError

SAMPLES = Path(__file__).parent / "inspector"
QKV = "layer.0.query+layer.0.key+layer.0.value_myl0_3"


def text(version: int) -> str:
    return (SAMPLES / f"tensorrt{version}.json").read_text("utf-8")


@pytest.mark.parametrize("version", [10, 11])
def test_a_merged_gemm_stands_for_all_its_nodes(version: int) -> None:
    layers = {layer.name: layer for layer in inspector.layers(text(version))}
    assert layers[QKV].nodes == ("layer.0.query", "layer.0.key", "layer.0.value")
    assert layers[QKV].int8
    assert not layers["layer.0.intermediate_myl0_9"].int8


def test_int8_weights_of_a_convolution_kernel_count_as_its_second_operand() -> None:
    layers = {layer.name: layer for layer in inspector.layers(text(10))}
    assert layers["layer.0.output"].int8


def test_a_quantizing_kernel_is_no_gemm() -> None:
    layers = inspector.layers(text(10))
    assert not layers[0].int8  # it writes int8 and reads FP16


@pytest.mark.parametrize(
    ("version", "names"),
    [(10, ["input_ids", "attention_mask", "logits"]), (11, ["input_ids", "logits"])],
)
def test_inputs_and_outputs_of_both_forms(version: int, names: list[str]) -> None:
    assert inspector.tensors(text(version)) == names


@pytest.mark.parametrize("version", [10, 11])
def test_the_certificate_counts_what_ran(version: int) -> None:
    layers = inspector.layers(text(version))
    ran = inspector.kernels(layers, {QKV: [0.25, 0.35]})
    marks = {
        "layer.0.query": ["layer.0.query"],
        "layer.0.intermediate": ["layer.0.intermediate"],
        "layer.1.query": ["layer.1.query"],
    }
    found = inspector.of_gemms(layers, ran, marks)
    assert [k.ms for k in found["layer.0.query"]] == [pytest.approx(0.3)]
    gemm = {"precision": "int8", "reason": "", "flops": 10}
    report = tally(dict.fromkeys(marks, gemm), found, 1.0)
    assert (report["planned"], report["executed"]) == (3, 1)
    reasons = {f["site"]: f["reason"] for f in report["fallbacks"]}
    assert reasons["layer.0.intermediate"].startswith("TensorRT reads")
    assert "no kernel" in reasons["layer.1.query"]


def test_a_gemm_in_parts_needs_all_of_them() -> None:
    layers = inspector.layers(text(10))
    ran = inspector.kernels(layers, {})
    parts = {"g": ["layer.0.query", "layer.0.query/part2"]}
    assert inspector.of_gemms(layers, ran, parts) == {"g": []}


def test_names_in_a_fused_layers_name_stand_in_for_missing_metadata() -> None:
    sample = {"Layers": [{"Name": "a/b + c.d", "LayerType": "gemm", "Inputs": []}], "Bindings": []}
    (layer,) = inspector.layers(json.dumps(sample))
    assert layer.nodes == ("a/b", "c.d")


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
