"""`qdeploy inspect`: what a model, an engine or any ONNX file holds, and its INT8 kernels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdeploy.artifact import kind_of, read_manifest
from qdeploy.calibrate.plan import read_plan
from qdeploy.deploy.certificate import read_certificate
from qdeploy.deploy.foreign import look
from qdeploy.deploy.targets import TARGETS
from qdeploy.errors import ModelError, TargetError, choose
from qdeploy.integrity import read_whole, verify
from qdeploy.onnx_files import GRAPH, check_inside, load_graph

if TYPE_CHECKING:
    import onnx_ir as ir

_REMEDY = "Take it anew from where it was made."
_JUDGED = ("ort-cpu", "ort-cuda", "ort-tensorrt", "tensorrt")


def inspect_path(path: str | Path, target: str | None = None) -> dict[str, Any]:
    """Describe a model directory, an engine directory or an ONNX file.

    Args:
        path: directory with a `qdeploy.json`, or any .onnx file.
        target: a GPU target holds the file, or a dry run's, against its rules.

    Returns:
        For a model: its manifest and structure. For an engine: its plan (treatment, reason and
        expected SQNR of each site), the noise that `build` measured, and its certificate. For a
        file: its operators, and under "int8" what ONNX Runtime's CPU provider makes of its GEMMs,
        as a certificate says it.

        With a target, under "contract": {"target", "errors", "advice": counts, "violations":
        [{"rule", "severity", "node", "text", "remedy"}]}.

    Raises:
        ModelError: nothing there, not readable as ONNX, or a directory with other files than those
            of its manifest.
        TargetError: a target without rules.
    """
    source = Path(path)
    if target not in (None, *_JUDGED):
        choose("target of inspect", str(target), _JUDGED, TargetError)
    held = None if target == "ort-cpu" else target
    if source.is_dir():
        return _directory(source) if held is None else look(source / GRAPH, held)
    return look(source, held)


def describe(path: Path, target: str | None = None) -> dict[str, Any]:
    """Describe an ONNX file; `foreign.look` does it in a process of its own.

    Args:
        path: of a file that `onnx_files.check_file` found good.
        target: see `inspect_path`; None for ONNX Runtime's CPU provider.

    Raises:
        ModelError: not readable as ONNX.
    """
    model = load_graph(path, _REMEDY)
    return _file(path, model) if target is None else _contract(path, model, target)


def _contract(path: Path, model: ir.Model, target: str) -> dict[str, Any]:
    if any(node.op_type == "EPContext" for node in model.graph):
        raise ModelError(
            f"{path} only names a plan that is compiled: nothing of its graph is left to judge. "
            "Build it with --dry-run, and inspect that."
        )
    from qdeploy.deploy.rules import ADVICE, ERROR

    found = TARGETS[target].violations(model)
    severities = Counter(violation.severity for violation in found)
    return {
        "kind": "onnx",
        "operators": dict(Counter(node.op_type for node in model.graph).most_common()),
        "contract": {
            "target": target,
            "errors": severities[ERROR],
            "advice": severities[ADVICE],
            "violations": [violation.to_json() for violation in found],
        },
    }


def _directory(directory: Path) -> dict[str, Any]:
    if kind_of(directory) == "engine":
        return read_whole(directory, lambda: _engine(directory))
    return read_whole(directory, lambda: _model(directory))


def _model(directory: Path) -> dict[str, Any]:
    from qdeploy.calibrate.sites import find_structure  # onnx-ir, which an engine does without

    manifest = read_manifest(directory, "model")
    verify(directory, manifest)
    check_inside(directory / GRAPH)
    structure = find_structure(
        load_graph(directory / GRAPH, "Export the checkpoint again."), directory / GRAPH
    )
    return {
        "kind": "model",
        **{key: manifest.get(key) for key in ("model_type", "task", "labels", "verification")},
        "gemms": len(structure.gemms),
        "sites": len(structure.sites),
        "embedding_tables": {t.name: [t.rows, t.columns] for t in structure.tables},
    }


def _engine(directory: Path) -> dict[str, Any]:
    manifest = read_manifest(directory, "engine")
    verify(directory, manifest)
    plan = read_plan(directory)
    certificate = read_certificate(directory)
    return {
        "kind": "engine",
        **{key: manifest.get(key) for key in ("strategy", "target", "scope", "options", "noise")},
        "sites": [
            {
                "site": site.name,
                "treatment": site.treatment.kind,
                "sqnr_db": site.sqnr_db,
                "reason": site.reason,
            }
            for site in plan.sites.values()
        ],
        "planned_gemms": certificate["planned_gemms"],
        "other_products": certificate.get("other_products", {}),
        "int8": certificate.get("int8"),
    }


def _file(path: Path, model: ir.Model) -> dict[str, Any]:
    from qdeploy.deploy.judge import judge

    return {
        "kind": "onnx",
        "inputs": {str(v.name): str(v.shape) for v in model.graph.inputs},
        "operators": dict(Counter(node.op_type for node in model.graph).most_common()),
        "int8": judge(path),
    }
