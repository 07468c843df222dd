"""A model card (Markdown) to publish with an engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.figures import counted, interval, part, points, probability
from qdeploy.head import EMBEDDINGS, METHODS, SPANS, TOKENS, cutting, default_prompt
from qdeploy.names import eight_bits
from qdeploy.report.evaluation import int8_text
from qdeploy.report.figures import figures_of, is_loss
from qdeploy.schemas.evaluation import Evaluation
from qdeploy.schemas.manifest import EngineManifest
from qdeploy.schemas.quality import judging_figure
from qdeploy.text import markdown

_PIPELINES = {
    "sequence-classification": "text-classification",
    "sentence-embedding": "sentence-similarity",
}
# What the hub calls the metrics that engines are judged by.
_METRICS = {
    "F1": "f1",
    "MCC": "matthews_correlation",
    "entity f1": "f1",
    "answer f1": "f1",
    "exact match": "exact_match",
    "micro F1": "f1",
    "spearman": "spearmanr",
}
_BESIDE = ("exact match",)  # figures that the hub's pages have beside the one that judges
_FEEDS = {
    "input_ids": "row.ids",
    "attention_mask": "row.attention_mask",
    "token_type_ids": "row.type_ids",
}


def model_card(report: Evaluation, manifest: EngineManifest) -> str:
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


def _title(report: Evaluation, manifest: EngineManifest) -> str:
    precision = eight_bits(report["strategy"]) if _quantized(report) else "ONNX"
    return f"{markdown(_model(manifest))}, {precision} for `{report['target']}`"


def _model(manifest: EngineManifest) -> str:
    """The model's name; engines of earlier versions know only what they were made from."""
    source = manifest["source"]
    return str(manifest.get("checkpoint") or source.get("id") or source["path"])


def _quantized(report: Evaluation) -> bool:
    """Whether any GEMM is INT8 or FP8; a simulation does not tell, and its strategy does."""
    check = report["int8"]
    return bool(check["planned"]) if check else report["strategy"] not in ("fp32", "fp16")


def _short(source: str) -> str:
    """A path as its last two parts: what lies above them is of nobody's business."""
    return "/".join(Path(source).parts[-2:])


def _front_matter(report: Evaluation, manifest: EngineManifest) -> str:
    own = (eight_bits(report["strategy"]).lower(), "quantization") if _quantized(report) else ()
    tags = ["onnx", *own, "qdeploy"]
    lines = ["library_name: onnx", "tags:", *(f"- {tag}" for tag in tags)]
    kind = _PIPELINES.get(manifest["task"], manifest["task"])
    lines.append(f"pipeline_tag: {kind}")
    if measured := ", ".join(_measured(report)):
        source = json.dumps(_short(report["data"]["source"]))
        lines += [
            "model-index:",
            f"- name: {json.dumps(_model(manifest))}",
            "  results:",
            f"  - task: {{type: {kind}}}",
            f"    dataset: {{name: {source}, type: {report['task']}}}",
            f"    metrics: [{measured}]",
        ]
    return "---\n" + "\n".join(lines) + "\n---\n"


def _measured(report: Evaluation) -> Iterator[str]:
    """What the engine is judged by, and its accuracy, as the hub's front matter has them."""
    quality, metrics = report["quality"], report["metrics"]
    figure = judging_figure(quality)
    rows = "" if quality is None else counted(quality["n"], "row")
    judging = () if quality is None or figure is None else (figure["name"], *_BESIDE)
    for one in () if quality is None else quality["figures"]:
        if one["name"] in judging and (kind := _METRICS.get(one["name"])) is not None:
            name = f"{one['name']} on {rows}"
            yield f"{{type: {kind}, name: {name}, value: {one['value']:.6f}}}"
    if metrics is not None:
        name = f"accuracy on {counted(metrics['n'], 'row')}"
        yield f"{{type: accuracy, name: {name}, value: {metrics['accuracy']:.6f}}}"


def _what(report: Evaluation, manifest: EngineManifest) -> str:
    how = " with 8-bit weights and activations" if _quantized(report) else ""
    return (
        f"An engine for `{report['target']}`{how}: strategy `{report['strategy']}`, scope "
        f"`{report['scope']}`, everything else in {report['rest_precision']}. Model type "
        f"{markdown(str(manifest.get('model_type', 'unknown')))}; {int8_text(report)}.\n"
    )


def _figures(report: Evaluation) -> str:
    lines = ["| figure | value |", "|---|---|"]
    lines += [f"| {figure.name} | {figure.text} |" for figure in figures_of(report)]
    return "\n".join(lines) + "\n"


def _use(report: Evaluation, manifest: EngineManifest) -> str:
    inputs = ", ".join(f"`{name}`" for name in manifest["inputs"])
    labels = ", ".join(
        f"{index} = {markdown(name)}" for index, name in enumerate(manifest.get("labels") or ())
    )
    text = f"Inputs {inputs}, int64 [batch, tokens], at most {manifest['max_length']} tokens"
    classes = labels and manifest["task"] != SPANS  # its two are the ends of an answer
    text += f"; classes {labels}" if classes else ""
    return f"{text}. Tokenizer: `tokenizer.json`.\n\n```python\n{_code(report, manifest)}\n```\n"


def _code(report: Evaluation, manifest: EngineManifest) -> str:
    """A program that runs in the engine's directory."""
    target = report["target"]
    snippet = TARGETS[target].snippet() if target in TARGETS else None
    rows = '[("first text", "second text")]' if _is_of_pairs(report, manifest) else '["a text"]'
    if snippet is None or TARGETS[target].script is None:
        call = METHODS.get(manifest["task"], "predict")
        return f'import qdeploy\n\nanswers = qdeploy.load(".").{call}({rows})'
    if before := default_prompt(manifest):
        rows = f'[{json.dumps(before, ensure_ascii=False)} + "a text"]'
    lines = [
        "import numpy as np",
        snippet.imports,
        "from tokenizers import Tokenizer",
        "",
        'tokenizer = Tokenizer.from_file("tokenizer.json")',
        cutting(Path(report["engine"]), manifest["max_length"]),
        f"tokenizer.enable_padding(pad_id={manifest['pad_token_id']})",
        f"rows = tokenizer.encode_batch({rows})",
        "feeds = {",
        *(
            f'    "{name}": np.array([{_FEEDS[name]} for row in rows], np.int64),'
            for name in manifest["inputs"]
        ),
        "}",
        snippet.run,
    ]
    return "\n".join(lines)


def _is_of_pairs(report: Evaluation, manifest: EngineManifest) -> bool:
    """Whether the engine reads two texts together, as it did of the rows that were measured."""
    alone = manifest["task"] in (TOKENS, EMBEDDINGS)
    return not alone and report["data"]["columns"]["second"] is not None


def _making(report: Evaluation, manifest: EngineManifest) -> str:
    calibration = manifest.get("calibration")
    rows = "without calibration rows"
    if calibration:
        source = markdown(_short(calibration["data"]))
        rows = f"on {calibration['rows']} calibration rows of {source}"
        if calibration.get("truncated"):
            share = part(calibration["truncated"] / calibration["rows"])
            rows += f" ({share} of them cut at {calibration['max_length']} tokens)"
    known = manifest.get("versions", {})
    versions = ", ".join(f"{name} {version}" for name, version in known.items())
    digest = manifest["source"]["sha256"]
    return f"Quantized after training, {rows}. Source graph sha256 `{digest}`. {versions}.\n"


def _loss(report: Evaluation) -> str | None:
    """That the engine loses something against its baseline, and by more than chance."""
    base, figure = report["baseline"], judging_figure(report["quality"])
    if base is None:
        return None
    against = f"against {base['strategy']}"
    if figure is None:
        if not is_loss(base):
            return None
        lost, chance = points(base["drop"], signed=False), probability(base["mcnemar_p"])
        return f"- **It loses {lost} points of accuracy** {against} (McNemar p = {chance})."
    if figure["drop"] is None or figure["drop_ci95"] is None or figure["drop_ci95"][0] <= 0:
        return None
    lost, between = points(figure["drop"], signed=False), interval(figure["drop_ci95"], points)
    return f"- **It loses {lost} points of {figure['name']}** {against} (95 %: {between})."


def _limits(report: Evaluation, manifest: EngineManifest) -> str:
    lines = [
        "- Ranges come from the calibration rows: texts of another kind may lose more.",
        "- Latency is of the machine that measured it.",
        "- Licence and intended use are those of the model it was made from.",
    ]
    if (loss := _loss(report)) is not None:
        lines.insert(0, loss)
    lines += [f"- {markdown(text)}" for text in report["warnings"]]
    return "\n".join(lines) + "\n"
