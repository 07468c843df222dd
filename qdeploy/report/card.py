"""A model card (Markdown) to publish with an engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from qdeploy.report.evaluation import int8_text

_PIPELINES = {"sequence-classification": "text-classification"}
_LOADS = {
    "ort-cpu": """import onnxruntime as ort

session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
logits = session.run(["logits"], feeds)[0]""",
    "openvino": """import openvino as ov

model = ov.Core().compile_model("model.onnx", "CPU", {"PERFORMANCE_HINT": "LATENCY"})
logits = model(feeds)["logits"]""",
}


def model_card(report: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """The card of an engine, from a report of `eval` and the engine's qdeploy.json.

    Nothing is claimed that the report does not hold; a licence is not guessed.
    """
    sections = [
        _front_matter(report, manifest),
        f"# {manifest['source']['path']}, INT8 by qdeploy\n",
        _what(report, manifest),
        "## Figures\n\n" + _figures(report),
        "## Use\n\n" + _use(report, manifest),
        "## How it was made\n\n" + _making(report, manifest),
        "## Limits\n\n" + _limits(report, manifest),
    ]
    return "\n".join(sections)


def _front_matter(report: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    lines = ["library_name: onnx", "tags:", "- onnx", "- int8", "- quantization", "- qdeploy"]
    kind = {"sequence-classification": "text-classification"}.get(
        manifest["task"], manifest["task"]
    )
    lines.append(f"pipeline_tag: {kind}")
    metrics = report["metrics"]
    if metrics:
        source = json.dumps(str((report["data"] or {}).get("source")))
        lines += [
            "model-index:",
            f"- name: {json.dumps(manifest['source']['path'])}",
            "  results:",
            f"  - task: {{type: {kind}}}",
            f"    dataset: {{name: {source}, type: {report['task']}}}",
            f"    metrics: [{{type: accuracy, value: {metrics['accuracy']:.6f}}}]",
        ]
    return "---\n" + "\n".join(lines) + "\n---\n"


def _what(report: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    return (
        f"An engine for `{report['target']}` with 8-bit weights and activations: strategy "
        f"`{report['strategy']}`, scope `{report['scope']}`, everything else in "
        f"{report['rest_precision']}. Model type {manifest.get('model_type', 'unknown')}; "
        f"{int8_text(report['int8'])}.\n"
    )


def _figures(report: Mapping[str, Any]) -> str:
    rows = []
    if metrics := report["metrics"]:
        low, high = (100 * x for x in metrics["ci95"])
        value = (
            f"{100 * metrics['accuracy']:.2f} % (95 %: {low:.2f} to {high:.2f}), n = {metrics['n']}"
        )
        rows.append((f"accuracy, {report['task']}", value))
    base = report["baseline"]
    if base and "drop" in base:
        value = f"{100 * base['drop']:+.2f} points (McNemar p = {base['mcnemar_p']:.2g})"
        rows.append((f"drop against {base['strategy']}", value))
    if speed := report["speedup"]:
        low, high = speed["ci95"]
        rows.append(("speed against it", f"{speed['ratio']:.2f} × ({low:.2f} to {high:.2f})"))
    if latency := report["latency_ms"]:
        p = report["protocol"]
        shape = f"{p['batch_size']} × {p['seq_len']}, {p['threads']} threads"
        rows.append(
            (f"latency, {shape}", f"p50 {latency['p50']:.2f} ms, p95 {latency['p95']:.2f} ms")
        )
    rows.append(("size", f"{report['size_mb']['total']:.1f} MB"))
    lines = ["| figure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines) + "\n"


def _use(report: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    inputs = ", ".join(f"`{name}`" for name in manifest["inputs"])
    labels = ", ".join(
        f"{index} = {name}" for index, name in enumerate(manifest.get("labels") or ())
    )
    text = f"Inputs {inputs}, int64 [batch, tokens], at most {manifest['max_length']} tokens"
    text += f"; classes {labels}" if labels else ""
    code = _LOADS.get(report["target"], "")
    return f"{text}. Tokenizer: `tokenizer.json`.\n\n```python\n{code}\n```\n"


def _making(report: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    calibration = manifest["calibration"]
    rows = "without calibration rows"
    if calibration:
        rows = f"on {calibration['rows']} calibration rows of {calibration['data']}"
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    digest = manifest["source"]["sha256"]
    return f"Quantized after training, {rows}. Source graph sha256 `{digest}`. {versions}.\n"


def _limits(report: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    lines = [
        "- Ranges come from the calibration rows: texts of another kind may lose more.",
        "- Latency is of the machine that measured it.",
        "- Licence and intended use are those of the model it was made from.",
    ]
    lines += [f"- {text}" for text in report["warnings"]]
    return "\n".join(lines) + "\n"
