"""A model card (Markdown) to publish with an engine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.report.evaluation import int8_text
from qdeploy.schemas.manifest import EngineManifest
from qdeploy.text import markdown

_PIPELINES = {"sequence-classification": "text-classification"}
_FEEDS = {
    "input_ids": "row.ids",
    "attention_mask": "row.attention_mask",
    "token_type_ids": "row.type_ids",
}
_SURE = 0.05  # p below which a drop is told as one


def model_card(report: Mapping[str, Any], manifest: EngineManifest) -> str:
    """The card of an engine, from a report of `eval` and the engine's qdeploy.json.

    Nothing is claimed that the report does not hold; a licence is not guessed.
    """
    sections = [
        _front_matter(report, manifest),
        f"# {_title(report, manifest)}\n",
        _what(report, manifest),
        "## Figures\n\n" + _figures(report),
        "## Use\n\n" + _use(report, manifest),
        "## How it was made\n\n" + _making(report, manifest),
        "## Limits\n\n" + _limits(report, manifest),
    ]
    return "\n".join(sections)


def _title(report: Mapping[str, Any], manifest: EngineManifest) -> str:
    precision = "INT8" if _quantized(report) else "ONNX"
    return f"{markdown(_model(manifest))}, {precision} for `{report['target']}`"


def _model(manifest: EngineManifest) -> str:
    """The model's name; engines of earlier versions know only what they were made from."""
    source = manifest["source"]
    return str(manifest.get("checkpoint") or source.get("id") or source["path"])


def _quantized(report: Mapping[str, Any]) -> bool:
    """Whether any GEMM is INT8; a simulation does not tell, and its strategy does."""
    check = report["int8"]
    return bool(check["planned"]) if check else report["strategy"] not in ("fp32", "fp16")


def _short(source: Any) -> str:
    """A path as its last two parts: what lies above them is of nobody's business."""
    return "/".join(Path(str(source)).parts[-2:])


def _front_matter(report: Mapping[str, Any], manifest: EngineManifest) -> str:
    tags = ["onnx", *(("int8", "quantization") if _quantized(report) else ()), "qdeploy"]
    lines = ["library_name: onnx", "tags:", *(f"- {tag}" for tag in tags)]
    kind = _PIPELINES.get(manifest["task"], manifest["task"])
    lines.append(f"pipeline_tag: {kind}")
    metrics = report["metrics"]
    if metrics:
        source = json.dumps(_short((report["data"] or {}).get("source")))
        name = f"accuracy on {metrics['n']} rows"
        lines += [
            "model-index:",
            f"- name: {json.dumps(_model(manifest))}",
            "  results:",
            f"  - task: {{type: {kind}}}",
            f"    dataset: {{name: {source}, type: {report['task']}}}",
            f"    metrics: [{{type: accuracy, name: {name}, value: {metrics['accuracy']:.6f}}}]",
        ]
    return "---\n" + "\n".join(lines) + "\n---\n"


def _what(report: Mapping[str, Any], manifest: EngineManifest) -> str:
    how = " with 8-bit weights and activations" if _quantized(report) else ""
    return (
        f"An engine for `{report['target']}`{how}: strategy `{report['strategy']}`, scope "
        f"`{report['scope']}`, everything else in {report['rest_precision']}. Model type "
        f"{markdown(str(manifest.get('model_type', 'unknown')))}; {int8_text(report['int8'])}.\n"
    )


def _figures(report: Mapping[str, Any]) -> str:
    rows = []
    if metrics := report["metrics"]:
        low, high = (100 * x for x in metrics["ci95"])
        value = (
            f"{100 * metrics['accuracy']:.2f} % (95 %: {low:.2f} to {high:.2f}), n = {metrics['n']}"
        )
        rows.append((f"accuracy, {report['task']}", value))
    data = report["data"] or {}
    if data.get("truncated"):
        value = f"{data['truncated']} of {data['n']} ({100 * data['truncated_share']:.1f} %)"
        rows.append((f"rows cut at {data['max_length']} tokens", value))
    base = report["baseline"]
    if base and "drop" in base:
        value = f"{100 * base['drop']:+.2f} points (McNemar p = {base['mcnemar_p']:.2g})"
        rows.append((f"drop against {base['strategy']}", value))
    elif base and "agreement" in base:
        value = f"{100 * base['agreement']:.2f} % ({base['flipped']} rows flipped)"
        rows.append((f"agreement with {base['strategy']}", value))
    if base and base.get("sqnr_db") is not None:
        difference = f", largest difference {base['max_abs_diff']:.3g}"
        value = f"SQNR {base['sqnr_db']:.1f} dB{difference}"
        rows.append((f"logits against {base['strategy']}", value))
    if speed := report["speedup"]:
        low, high = speed["ci95"]
        rows.append(("speed against it", f"{speed['ratio']:.2f} × ({low:.2f} to {high:.2f})"))
    if speed := (report.get("own_lengths") or {}).get("speedup"):
        low, high = speed["ci95"]
        value = f"{speed['ratio']:.2f} × ({low:.2f} to {high:.2f})"
        rows.append(("the same at the data's own lengths", value))
    if neighbours := report.get("neighbours"):
        rows.append(("in a batch", neighbours["summary"]))
    if latency := report["latency_ms"]:
        p = report["protocol"]
        shape = f"{p['batch_size']} × {p['seq_len']}, {p['threads']} threads"
        rows.append(
            (f"latency, {shape}", f"p50 {latency['p50']:.2f} ms, p95 {latency['p95']:.2f} ms")
        )
    rows.append(("size", f"{report['size_mb']['total']:.1f} MB"))
    lines = ["| figure | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines) + "\n"


def _use(report: Mapping[str, Any], manifest: EngineManifest) -> str:
    inputs = ", ".join(f"`{name}`" for name in manifest["inputs"])
    labels = ", ".join(
        f"{index} = {markdown(name)}" for index, name in enumerate(manifest.get("labels") or ())
    )
    text = f"Inputs {inputs}, int64 [batch, tokens], at most {manifest['max_length']} tokens"
    text += f"; classes {labels}" if labels else ""
    return f"{text}. Tokenizer: `tokenizer.json`.\n\n```python\n{_code(report, manifest)}\n```\n"


def _code(report: Mapping[str, Any], manifest: EngineManifest) -> str:
    """A program that runs in the engine's directory."""
    target = report["target"]
    snippet = TARGETS[target].snippet() if target in TARGETS else None
    if snippet is None or TARGETS[target].script is None:
        return (
            'import qdeploy\n\nanswers = qdeploy.load(".").predict([("first text", "second text")])'
        )
    lines = [
        "import numpy as np",
        snippet.imports,
        "from tokenizers import Tokenizer",
        "",
        'tokenizer = Tokenizer.from_file("tokenizer.json")',
        f"tokenizer.enable_truncation({manifest['max_length']})",
        f"tokenizer.enable_padding(pad_id={manifest['pad_token_id']})",
        'rows = tokenizer.encode_batch([("first text", "second text")])',
        "feeds = {",
        *(
            f'    "{name}": np.array([{_FEEDS[name]} for row in rows], np.int64),'
            for name in manifest["inputs"]
        ),
        "}",
        snippet.run,
    ]
    return "\n".join(lines)


def _making(report: Mapping[str, Any], manifest: EngineManifest) -> str:
    calibration = manifest.get("calibration")
    rows = "without calibration rows"
    if calibration:
        source = markdown(_short(calibration["data"]))
        rows = f"on {calibration['rows']} calibration rows of {source}"
        if calibration.get("truncated"):
            share = 100 * calibration["truncated"] / calibration["rows"]
            limit = calibration["max_length"]
            rows += f" ({share:.1f} % of them cut at {limit} tokens)"
    known = manifest.get("versions", {})
    versions = ", ".join(f"{name} {version}" for name, version in known.items())
    digest = manifest["source"]["sha256"]
    return f"Quantized after training, {rows}. Source graph sha256 `{digest}`. {versions}.\n"


def _limits(report: Mapping[str, Any], manifest: EngineManifest) -> str:
    lines = [
        "- Ranges come from the calibration rows: texts of another kind may lose more.",
        "- Latency is of the machine that measured it.",
        "- Licence and intended use are those of the model it was made from.",
    ]
    base = report["baseline"]
    if base and base.get("drop", 0) > 0 and base["mcnemar_p"] < _SURE:
        lines.insert(
            0,
            f"- **It loses {100 * base['drop']:.2f} points of accuracy** against "
            f"{base['strategy']} (McNemar p = {base['mcnemar_p']:.2g}).",
        )
    lines += [f"- {markdown(text)}" for text in report["warnings"]]
    return "\n".join(lines) + "\n"
