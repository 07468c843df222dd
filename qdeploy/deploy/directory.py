"""What stands in an engine directory beside its graph: files of the model, guides, the manifest."""

from __future__ import annotations

import shutil
from pathlib import Path

from qdeploy.calibrate.statistics import Statistics
from qdeploy.deploy.bill_of_materials import BOM, write_bom
from qdeploy.deploy.engine_readme import README, readme
from qdeploy.deploy.predict_script import SCRIPT, predict_script
from qdeploy.deploy.request import Request
from qdeploy.errors import ModelError
from qdeploy.files.artifact import MANIFEST, write_bytes
from qdeploy.files.integrity import verify
from qdeploy.schemas.certificate import Certificate
from qdeploy.schemas.manifest import Calibration, EngineFields, ModelManifest, Origin

# An engine has its own.
_OF_MODEL = (MANIFEST, "model.onnx", "model.onnx.data", README, SCRIPT)


def copy_companions(source: Path, work: Path, manifest: ModelManifest) -> None:
    """config.json and the tokenizer's files: what the manifest lists, and nothing else.

    Whatever else lies beside the model may be secret, and an engine is made to be given away.

    Args:
        source: model directory.
        work: engine directory.
        manifest: of the model directory.

    Raises:
        ModelError: a listed file is missing, a link, or another one.
    """
    names = [name for name in sorted(manifest.get("files", {})) if name not in _OF_MODEL]
    for name in names:
        if (source / name).is_symlink():
            raise ModelError(
                f"{source / name} is a link, and {MANIFEST} lists a file. Export the checkpoint "
                "again, or put the file in its place."
            )
    verify(source, manifest, names)
    for name in names:
        target = work / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target, follow_symlinks=False)


def manifest_fields(
    manifest: ModelManifest, request: Request, digest: str, observed: Statistics | None
) -> EngineFields:
    """What the manifest of an engine says of its making.

    Args:
        manifest: of the model directory.
        digest: of the model (`model_digest`).
        observed: statistics that the plan was made from, or None.
    """
    calibration: Calibration | None = None
    if observed is not None:
        origin = observed.origin
        calibration = {
            "data": origin.data,
            "data_hash": origin.data_hash,
            "rows": origin.rows,
            "seed": origin.seed,
            **origin.lengths.to_json(),
            "row_lengths": list(origin.row_lengths),
            "row_hashes": list(origin.row_hashes),
        }
    fields: EngineFields = {
        "labels": manifest["labels"],
        "task": manifest["task"],
        "max_length": manifest["max_length"],
        "pad_token_id": manifest["pad_token_id"],
        "inputs": manifest["inputs"],
        "outputs": manifest["outputs"],
        "command": "build",
        "checkpoint": _name(manifest),
        "origin": _origin(manifest),
        "source": {"path": request.model_dir.name, "sha256": digest},
        "target": request.target.name,
        "rest_precision": request.rest,
        "opt_shape": list(request.asked.shape),
        "strategy": request.asked.strategy,
        "scope": request.plan.scope,
        "options": request.plan.to_json(),
        "seed": request.asked.calibration.seed,
        "calibration": calibration,
    }
    # these came with later versions of a model's manifest
    if "head" in manifest:
        fields["head"] = manifest["head"]
    if "vocabulary" in manifest:
        fields["vocabulary"] = manifest["vocabulary"]
    if "model_type" in manifest:
        fields["model_type"] = manifest["model_type"]
    return fields


def _name(manifest: ModelManifest) -> str:
    """Of the checkpoint: its id, or the last part of its path."""
    source = manifest["source"]
    return source.get("id") or Path(str(source.get("path"))).name


def _origin(manifest: ModelManifest) -> Origin:
    """The checkpoint that a model was exported from."""
    source = manifest["source"]
    found: Origin = {"name": _name(manifest), "sha256": source["sha256"]}
    if revision := source.get("revision"):
        found["revision"] = revision
    return {**found, "licences": manifest.get("licences", [])}


def write_guides(
    directory: Path, fields: EngineFields, certificate: Certificate
) -> tuple[str, ...]:
    """`bom.cdx.json`, `README.md`, and `predict.py` where the target has one.

    Args:
        directory: of the engine, with all its other files.
        fields: of its manifest.
        certificate: of the engine.

    Returns:
        Their names.
    """
    script = predict_script(directory, fields)
    if script is not None:
        write_bytes(directory / SCRIPT, script.encode())
    write_bom(directory, fields, certificate)
    text = readme(directory, fields, certificate, size_mb(directory))
    write_bytes(directory / README, text.encode())
    return (BOM, README) if script is None else (BOM, README, SCRIPT)


def size_mb(directory: Path) -> float:
    """Of the graph, its weights and the compiled plan, 10⁶ bytes."""
    files = [p for p in directory.iterdir() if p.name.startswith("model.")]
    return round(sum(p.stat().st_size for p in files) / 1e6, 3)
