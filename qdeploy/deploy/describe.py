"""What an ONNX file of anybody holds: its INT8 kernels, or where it breaks a target's rules."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from qdeploy.calibrate.plan import FLOAT
from qdeploy.deploy.by_layer import by_layer, causes_of_float
from qdeploy.deploy.certify_file import certify_file
from qdeploy.deploy.rules import ADVICE, ERROR, BrokenRule, label, prepared
from qdeploy.deploy.saturation import PairSums, pair_sums, processors_of
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import ModelError, QDeployWarning
from qdeploy.graph.constants import constant
from qdeploy.onnx_file.check import load_graph
from qdeploy.schemas.certificate import CertifiedGemm
from qdeploy.schemas.inspection import Contract, InspectedFile, RuleSummary

_REMEDY = "Take it anew from where it was made."
_SHOWN = 3  # places of a rule
# Where token ids enter, what they may pass, and what a table may pass, until a row is picked.
_IDS, _SAME_IDS = "input_ids", ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_RESTORING = ("DequantizeLinear", "QuantizeLinear", "Cast", "Identity")
# (operator, input of the ids) → input of the table
_TABLES = {
    ("Gather", 1): 0,
    ("GatherBlockQuantized", 1): 0,
    ("EmbedLayerNormalization", 0): 2,
    ("QEmbedLayerNormalization", 0): 2,
}


def describe(path: Path, target: str | None = None) -> InspectedFile:
    """Describe an ONNX file; `foreign.look` does it in a process of its own.

    Args:
        path: of a file that `onnx_files.check_file` found good.
        target: see `inspect.inspect_path`; None for ONNX Runtime's CPU provider.

    Raises:
        ModelError: not readable as ONNX.
    """
    model = load_graph(path, _REMEDY)
    found: InspectedFile = {
        "kind": "onnx",
        "inputs": {str(v.name): str(v.shape) for v in model.graph.inputs},
        "outputs": {str(v.name): str(v.shape) for v in model.graph.outputs},
        "vocabulary": vocabulary_of(model),
        "operators": dict(Counter(node.op_type for node in model.graph).most_common()),
    }
    if target is not None:
        return {**found, "contract": _broken_rules(path, model, target)}
    check = certify_file(path)
    gemms = check["gemms"]
    layers = by_layer([], gemms, ran=True)
    found["processors"] = processors_of(_sums(model, gemms))
    return {**found, "int8": check, "layers": layers, "float": causes_of_float(gemms)}


def vocabulary_of(model: ir.Model) -> int | None:
    """Rows of the table that `input_ids` picks from; None where none is found."""
    ids = next((v for v in model.graph.inputs if v.name == _IDS), None)
    pending, met = [ids], set[ir.Value]()
    while pending:
        value = pending.pop()
        if value is None or value in met:
            continue
        met.add(value)
        for node, at in value.uses():
            table = _TABLES.get((node.op_type, at))
            rows = None if table is None else _rows(node.inputs[table])
            if rows is not None:
                return rows
            if node.op_type in _SAME_IDS:
                pending += node.outputs
    return None


def _rows(table: ir.Value | None) -> int | None:
    """Rows of a matrix that is stored, whatever restores its numbers."""
    while table is not None:
        found = constant(table)
        if found is not None:
            return int(found.shape[0]) if found.ndim == 2 else None
        node = table.producer()
        table = node.inputs[0] if node is not None and node.op_type in _RESTORING else None
    return None


def _sums(model: ir.Model, gemms: Mapping[str, CertifiedGemm]) -> list[PairSums]:
    """The pairs of what multiplies integers: by its operator, or as ONNX Runtime runs it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QDeployWarning)  # types that nothing infers
        flat = prepared(model)
    floats = {name for name, gemm in gemms.items() if gemm["planned"] == FLOAT or gemm["reason"]}
    for node in model.graph:  # by the name that it has there
        if str(node.name or node.outputs[0].name) in floats:
            floats.add(label(node))
    return [one for one in pair_sums(flat) if one.integer or one.name not in floats]


def _broken_rules(path: Path, model: ir.Model, target: str) -> Contract:
    if any(node.op_type == "EPContext" for node in model.graph):
        raise ModelError(
            f"{path} only names a plan that is compiled: nothing of its graph is left to judge. "
            "Build it with --dry-run, and inspect that."
        )
    found = TARGETS[target].broken_rules(model)
    severities = Counter(one.severity for one in found)
    return {
        "target": target,
        "errors": severities[ERROR],
        "advice": severities[ADVICE],
        "rules": by_rule(found),
        "violations": [one.to_json() for one in found],
    }


def by_rule(broken: Sequence[BrokenRule]) -> list[RuleSummary]:
    """Broken rules, each once: errors first, the most frequent first.

    Returns:
        [{"rule", "severity", "count", "remedy": of the first place, "places": the first ones as
        {"node", "text"}}].
    """
    groups: dict[tuple[str, str], list[BrokenRule]] = {}
    for one in broken:
        groups.setdefault((one.severity, one.rule), []).append(one)
    rules: list[RuleSummary] = [
        {
            "rule": rule,
            "severity": severity,
            "count": len(members),
            "remedy": members[0].remedy,
            "places": [{"node": v.node, "text": v.text} for v in members[:_SHOWN]],
        }
        for (severity, rule), members in groups.items()
    ]
    return sorted(rules, key=lambda rule: (rule["severity"] != ERROR, -rule["count"]))
