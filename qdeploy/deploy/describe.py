"""What an ONNX file of anybody holds: its INT8 kernels, or where it breaks a target's rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from qdeploy.deploy.by_layer import by_layer, causes_of_float
from qdeploy.deploy.certify_file import certify_file
from qdeploy.deploy.rules import ADVICE, ERROR, BrokenRule
from qdeploy.deploy.saturation import pair_sums, processors_of
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.errors import ModelError
from qdeploy.onnx_file.check import load_graph
from qdeploy.schemas.inspection import Contract, InspectedFile, RuleSummary

_REMEDY = "Take it anew from where it was made."
_SHOWN = 3  # places of a rule


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
        "operators": dict(Counter(node.op_type for node in model.graph).most_common()),
    }
    if target is not None:
        return {**found, "contract": _broken_rules(path, model, target)}
    check = certify_file(path)
    gemms = check["gemms"]
    layers = by_layer([], gemms, ran=True)
    processors = processors_of(pair_sums(model))
    found["processors"] = processors
    return {**found, "int8": check, "layers": layers, "float": causes_of_float(gemms)}


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
