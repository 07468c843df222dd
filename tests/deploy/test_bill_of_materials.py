"""bom.cdx.json: valid, the same for equal engines, and saying what the manifest says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qdeploy.deploy.bill_of_materials import BOM, bill_of, write_bom
from qdeploy.deploy.build import build_engine
from qdeploy.deploy.certificate import read_certificate
from qdeploy.files.artifact import read_json, read_manifest, sha256_file
from tests.deploy.conftest import Built, Source

pytestmark = pytest.mark.filterwarnings("ignore::qdeploy.errors.QDeployWarning")


def faults(text: str) -> Any:
    """What CycloneDX's own schema says of a document; None for nothing."""
    pytest.importorskip("jsonschema")
    schema = pytest.importorskip("cyclonedx.schema")
    validation = pytest.importorskip("cyclonedx.validation.json")
    return validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(text)


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "peg"},
        {"strategy": "fp32"},
        {"strategy": "dynamic"},
        {"strategy": "w8a8", "dry_run": True},
    ],
    ids=["peg", "fp32", "dynamic", "dry"],
)
def test_it_is_valid(options: dict[str, Any], engine: Callable[..., Built]) -> None:
    text = (engine(**options).directory / BOM).read_text("utf-8")
    assert faults(text) is None
    found = json.loads(text)
    refs = {part["bom-ref"] for part in found["components"]}
    assert set(found["dependencies"][0]["dependsOn"]) == refs
    assert ("calibration-rows" in refs) == (options["strategy"] in ("peg", "w8a8"))


def test_the_schema_refuses_what_is_wrong(engine: Callable[..., Built]) -> None:
    found = read_json(engine(strategy="peg").directory / BOM)
    found["metadata"]["component"]["modelCard"]["accuracy"] = 1
    assert faults(json.dumps(found)) is not None


def test_it_says_what_the_manifest_says(engine: Callable[..., Built], bert: Source) -> None:
    directory = engine(strategy="peg").directory
    found, manifest = read_json(directory / BOM), read_manifest(directory, "engine")
    parts = {part["bom-ref"]: part for part in found["components"]}
    checkpoint = parts["checkpoint"]
    assert checkpoint["hashes"][0]["content"] == bert.manifest()["source"]["sha256"]
    assert checkpoint["name"] == manifest["checkpoint"] == manifest["origin"]["name"]
    rows = parts["calibration-rows"]
    assert rows["hashes"][0]["content"] == manifest["calibration"]["data_hash"]
    facts = {one["name"]: one["value"] for one in rows["data"][0]["contents"]["properties"]}
    assert facts["qdeploy:row-hashes"].split() == manifest["calibration"]["row_hashes"]
    libraries = {part["name"]: part["version"] for part in parts.values() if "purl" in part}
    versions = dict(manifest["versions"])
    del versions["qdeploy"]
    assert libraries == versions
    files = {part["name"]: part for part in found["metadata"]["component"]["components"]}
    assert {"model.onnx", "plan.json", "tokenizer.json", "canary.json"} <= set(files)
    for name, part in files.items():
        assert part["hashes"][0]["content"] == sha256_file(directory / name)


def test_metrics_have_intervals(engine: Callable[..., Built]) -> None:
    found = read_json(engine(strategy="peg").directory / BOM)
    noise = engine(strategy="peg").report["noise"]
    analysis = found["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]
    metrics = {one["type"]: one for one in analysis["performanceMetrics"]}
    same = metrics["answers that are those of FP32"]
    ends = same["confidenceInterval"]
    share = 1 - noise["flipped"] / noise["answers"]
    assert float(same["value"]) == pytest.approx(share, abs=1e-4)
    assert float(ends["lowerBound"]) < float(ends["upperBound"])
    assert metrics["SQNR of the outputs against FP32"]["value"] == f"{noise['sqnr_db']:.1f} dB"
    int8 = engine(strategy="peg").report["int8"]
    assert metrics["8-bit GEMMs, of those that are planned"]["value"] == (
        f"{int8['executed']}/{int8['planned']}"
    )


def test_equal_engines_have_equal_bytes(bert: Source, tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_engine(bert.directory, tmp_path / name, statistics=bert.statistics)
    first, second = ((tmp_path / name / BOM).read_bytes() for name in ("a", "b"))
    assert first == second
    serial = json.loads(first)["serialNumber"]
    manifest = read_manifest(tmp_path / "a", "engine")
    certificate = read_certificate(tmp_path / "a")
    write_bom(tmp_path / "a", {**manifest, "scope": "all"}, certificate)
    assert read_json(tmp_path / "a" / BOM)["serialNumber"] != serial


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("apache-2.0", {"id": "Apache-2.0"}),
        ("MIT", {"id": "MIT"}),
        ("gpl-3.0", {"name": "gpl-3.0"}),  # of SPDX's two it may be either
        ("house licence", {"name": "house licence"}),
    ],
)
def test_licences_are_as_the_checkpoint_names_them(
    name: str, licence: dict[str, str], engine: Callable[..., Built]
) -> None:
    directory = engine(strategy="fp32").directory
    manifest = read_manifest(directory, "engine")
    manifest["origin"] = {"name": "acme/bert", "sha256": "0" * 64, "licences": [name]}
    manifest["origin"]["revision"] = "a" * 40
    found = bill_of(directory, manifest, read_certificate(directory))
    assert found["metadata"]["component"]["licenses"] == [{"license": licence}]
    assert found["components"][0]["version"] == "a" * 40
    assert faults(json.dumps(found)) is None
