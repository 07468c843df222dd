"""bom.cdx.json: what an engine was made of, as CycloneDX 1.6 lists it (an ML-BOM).

Equal engines have equal bytes: there is no time in it, and its serial number comes from what it
says.
"""

from __future__ import annotations

import json
import platform
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from qdeploy.deploy.engine_readme import README
from qdeploy.figures import decibels
from qdeploy.files.artifact import MANIFEST, package_versions, sha256_file, write_json
from qdeploy.intervals import wilson_interval
from qdeploy.schemas.bom import (
    Bom,
    Component,
    License,
    LicenseChoice,
    Metric,
    ModelCard,
    Property,
)
from qdeploy.schemas.certificate import Certificate
from qdeploy.schemas.manifest import Calibration, EngineFields, Noise, Origin

BOM = "bom.cdx.json"
_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_TIMED = ("certificate.json", "builder.log")
_ENGINE, _CHECKPOINT, _ROWS = "engine", "checkpoint", "calibration-rows"
# As the hub spells what SPDX lists; the hub's "gpl-3.0" could be two of SPDX's.
_SPDX = {
    name.lower(): name
    for name in (
        *("Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "Unlicense", "ISC"),
        *("CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0"),
        *("CC-BY-NC-ND-4.0", "MPL-2.0", "AFL-3.0", "Artistic-2.0", "EPL-2.0", "PDDL-1.0"),
    )
}


def write_bom(directory: Path, fields: EngineFields, certificate: Certificate) -> None:
    """Write the bill of an engine directory.

    Args:
        directory: of the engine, with its graph, weights, plan, certificate and tokenizer.
        fields: of its manifest.
        certificate: of the engine.
    """
    bom = bill_of(directory, fields, certificate)
    content = json.dumps(bom, sort_keys=True, ensure_ascii=False)
    bom["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, f"{_SCHEMA}\n{content}").urn
    write_json(directory / BOM, bom)


def bill_of(directory: Path, fields: EngineFields, certificate: Certificate) -> Bom:
    """The document, without its serial number."""
    parts, versions = [*_sources(fields)], package_versions()
    tool = _tool(versions.pop("qdeploy", None))
    libraries = [_library(name, version) for name, version in sorted(versions.items())]
    made_with = [part["bom-ref"] for part in (*parts, *libraries)]
    engine: Component = {
        "type": "machine-learning-model",
        "bom-ref": _ENGINE,
        "name": str(fields.get("checkpoint")),
        "description": f"{fields['strategy']} engine for {fields['target']}",
        "modelCard": _card(fields, certificate),
        "components": [*_files(directory)],
    }
    if licences := _licences(fields.get("origin")):
        engine["licenses"] = licences
    return {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [tool]},
            "component": engine,
            "properties": [*_environment(certificate)],
        },
        "components": [*parts, *libraries],
        "dependencies": [{"ref": _ENGINE, "dependsOn": made_with}],
    }


def _tool(version: str | None) -> Component:
    """qdeploy, which no package index has."""
    tool: Component = {"type": "application", "bom-ref": "tool", "name": "qdeploy"}
    return tool if version is None else {**tool, "version": version}


def _sources(fields: EngineFields) -> Iterator[Component]:
    """The checkpoint, and the rows that calibrated."""
    if (origin := fields.get("origin")) is not None:
        checkpoint: Component = {
            "type": "machine-learning-model",
            "bom-ref": _CHECKPOINT,
            "name": origin["name"],
            "description": "weights that the engine was made of; the hash is of all their files",
            "hashes": [{"alg": "SHA-256", "content": origin["sha256"]}],
        }
        if revision := origin.get("revision"):
            checkpoint["version"] = revision
        if licences := _licences(origin):
            checkpoint["licenses"] = licences
        yield checkpoint
    if rows := fields.get("calibration"):
        yield _data(rows)


def _data(rows: Calibration) -> Component:
    """Rows by their hashes; no text of them stands in an engine."""
    facts = {
        "rows": rows["rows"],
        "seed": rows["seed"],
        "max-length": rows["max_length"],
        "truncated": rows["truncated"],
        "row-hashes": " ".join(rows.get("row_hashes", [])),
    }
    name = Path(rows["data"]).name
    found: Component = {
        "type": "data",
        "bom-ref": _ROWS,
        "name": name,
        "description": "rows that calibrated; a row's hash is the start of the sha256 of its texts",
        "data": [{"type": "dataset", "name": name, "contents": {"properties": _named(facts)}}],
    }
    digest = rows.get("data_hash", "")
    if re.fullmatch("[0-9a-f]{64}", digest):  # merged statistics have several
        found["hashes"] = [{"alg": "SHA-256", "content": digest}]
    return found


def _library(name: str, version: str) -> Component:
    place = f"pkg:pypi/{name}@{quote(version)}"
    return {"type": "library", "bom-ref": place, "name": name, "version": version, "purl": place}


def _licences(origin: Origin | None) -> list[LicenseChoice]:
    names = origin.get("licences", []) if origin else []
    return [{"license": _licence(name)} for name in names]


def _licence(name: str) -> License:
    known = _SPDX.get(name.lower())
    return {"name": name} if known is None else {"id": known}


def _card(fields: EngineFields, certificate: Certificate) -> ModelCard:
    shape = "int64 [rows, tokens]"
    card: ModelCard = {
        "modelParameters": {
            "task": fields["task"],
            "architectureFamily": "transformer encoder",
            "datasets": [{"ref": _ROWS}] if fields.get("calibration") else [],
            "inputs": [{"format": f"{name}: {shape}"} for name in fields["inputs"]],
            "outputs": [{"format": f"{name}: float32"} for name in fields["outputs"]],
        },
        "quantitativeAnalysis": {"performanceMetrics": [*_metrics(fields, certificate)]},
        "properties": _named(
            {
                "strategy": fields["strategy"],
                "scope": fields["scope"],
                "target": fields["target"],
                "max-length": fields["max_length"],
                "classes": ", ".join(fields["labels"]),
            }
        ),
    }
    if kind := fields.get("model_type"):
        card["modelParameters"]["modelArchitecture"] = kind
    return card


def _metrics(fields: EngineFields, certificate: Certificate) -> Iterator[Metric]:
    """Figures of the build; an engine directory is never changed, so `eval` adds none."""
    if noise := fields.get("noise"):
        yield from _of_noise(noise)
    if int8 := certificate.get("int8") or certificate.get("compiled"):
        planned, executed = int8["planned"], int8["executed"]
        yield {"type": "8-bit GEMMs, of those that are planned", "value": f"{executed}/{planned}"}
        share = _share(int8["flops_share"])
        yield {"type": "8-bit share of all constant-weight FLOPs", "value": share}


def _of_noise(noise: Noise) -> Iterator[Metric]:
    rows = f"{noise['rows']} rows of {Path(noise['data']).name}"
    if noise["sqnr_db"] is not None:
        level = f"{decibels(noise['sqnr_db'])} dB"
        yield {"type": "SQNR of the outputs against FP32", "value": level, "slice": rows}
    if noise["flipped"] is not None and noise["answers"]:
        same, count = noise["answers"] - noise["flipped"], noise["answers"]
        low, high = wilson_interval(same, count)
        yield {
            "type": "answers that are those of FP32",
            "value": _share(same / count),
            "slice": f"{count} answers on {rows}",
            "confidenceInterval": {"lowerBound": _share(low), "upperBound": _share(high)},
        }


def _share(value: float) -> str:
    return f"{value:.4f}"


def _files(directory: Path) -> Iterator[Component]:
    """Every file but those that are written after this one, or hold times of a run."""
    others = {BOM, MANIFEST, README, *_TIMED}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_file() and name not in others:
            digest = sha256_file(path)
            yield {
                "type": "file",
                "bom-ref": f"file:{name}",
                "name": name,
                "hashes": [{"alg": "SHA-256", "content": digest}],
            }


def _environment(certificate: Certificate) -> Iterator[Property]:
    facts = {"python": platform.python_version(), "system": platform.system()}
    facts |= {"machine": platform.machine()}
    if processors := certificate.get("processors"):
        facts["instruction-set"] = processors["made_on"]
    yield from _named(facts)


def _named(facts: dict[str, object] | dict[str, str]) -> list[Property]:
    return [{"name": f"qdeploy:{name}", "value": str(value)} for name, value in facts.items()]
