"""`README.md` of an engine directory: what it is, figures of its build, three ways to run it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from qdeploy.calibrate.run import texts_of_row
from qdeploy.calibrate.strategies import FP8, FP16, FP32
from qdeploy.deploy.predict_script import SCRIPT
from qdeploy.deploy.tally import name_of
from qdeploy.deploy.targets.registry import TARGETS
from qdeploy.figures import decibels, megabytes, percent
from qdeploy.head import (
    EMBEDDINGS,
    METHODS,
    SEQUENCES,
    SPANS,
    TOKENS,
    Head,
    cutting,
    default_prompt,
    head_of,
)
from qdeploy.names import few
from qdeploy.schemas.certificate import Certificate, Int8
from qdeploy.schemas.manifest import EngineFields, Noise
from qdeploy.text import markdown

README = "README.md"
_SHOWN = 12  # classes that are named
_FILES = {
    "model.onnx": "graph",
    "model.onnx.data": "weights of the graph",
    "model.plan": "engine, compiled for the GPUs that `builder` in qdeploy.json names",
    "tokenizer.json": "tokenizer, for the package `tokenizers`",
    "config.json": "configuration of the checkpoint, with its class names",
    SCRIPT: "answers without qdeploy",
    "plan.json": "how each tensor is quantized, and why",
    "builder.log": "what the compiler said",
    "layers.json": "layers of the compiled engine",
    "certificate.json": "which kernels ran in 8 bits, or were compiled so",
    "bom.cdx.json": "bill of materials (CycloneDX 1.6): checkpoint, rows, packages, licences",
    "canary.json": "rows and the outputs they had at build, for `qdeploy verify`",
    "qdeploy.json": "how the engine was made, and the sha256 of each file",
}


def readme(
    directory: Path, manifest: EngineFields, certificate: Certificate, size_mb: float
) -> str:
    """The text.

    Args:
        directory: of the engine, with all files but this one and the manifest.
        manifest: fields of the engine.
        certificate: of the engine.
        size_mb: of its graph and weights, 10⁶ bytes.
    """
    head = head_of(directory, manifest)
    target = manifest["target"]
    parts = [
        f"# {markdown(str(manifest.get('checkpoint')))}: an engine for {target}",
        f"A {markdown(_kind(manifest, head))}, {_how(manifest)} by `qdeploy build`. "
        f"{_runs_in(manifest)}",
        "\n".join(_table(manifest, certificate, head, size_mb)),
        _BUILT if _uncompiled(manifest) else _FIGURES,
        "## Run it",
        "The commands below run in this directory.",
        *_ways(directory, manifest, head),
        "## Files",
        "\n".join(_files(directory)),
    ]
    return "\n\n".join(parts) + "\n"


def _uncompiled(manifest: EngineFields) -> bool:
    """Whether it is a dry run for a target that runs what it compiles alone."""
    return bool(manifest.get("dry_run")) and TARGETS[manifest["target"]].compiles


def _kind(manifest: EngineFields, head: Head) -> str:
    return f"{manifest.get('model_type') or ''} {head.description}".strip()


def _how(manifest: EngineFields) -> str:
    known = {FP32: "compiled", FP16: "compiled", FP8: "quantized to FP8 (E4M3)"}
    return known.get(manifest["strategy"], "quantized to INT8")


def _runs_in(manifest: EngineFields) -> str:
    target = TARGETS[manifest["target"]]
    if target.ahead_of_time and not _uncompiled(manifest):
        aimed = (manifest.get("builder") or {}).get("compute_capabilities") or []
        where = target.description.split(":")[0]
        return f"It runs in {where}, on RTX GPUs of compute capability {', '.join(aimed)}."
    if _uncompiled(manifest):
        return (
            f"It is of a dry run: the graph is lowered for `{target.name}` and not compiled. Build "
            "it again, without `--dry-run`, on a machine with the GPU."
        )
    where = " It runs on the kind of GPU that it was compiled on." if target.compiles else ""
    return f"It runs in {target.description.split(':')[0]}.{where}"


def _table(
    manifest: EngineFields, certificate: Certificate, head: Head, size_mb: float
) -> Iterator[str]:
    yield "| | |\n|---|---|"
    yield f"| model | {markdown(str(manifest.get('checkpoint')))} |"
    if head.labels and head.task in (SEQUENCES, TOKENS):
        yield f"| classes | {few(list(map(markdown, head.labels)), _SHOWN)} |"
    yield f"| rows | of up to {manifest['max_length']} tokens |"
    yield f"| target | `{manifest['target']}`, the rest in {manifest['rest_precision']} |"
    yield f"| strategy | `{manifest['strategy']}`, scope `{manifest['scope']}` |"
    if (int8 := certificate.get("int8")) is not None:
        yield f"| {name_of(int8)} | {_int8(int8, 'ran in')} |"
    if (compiled := certificate.get("compiled")) is not None:
        by = f"{compiled['compiler']} for {', '.join(compiled['compute_capabilities'])}"
        yield f"| compiled by {by} | {_int8(compiled, 'were compiled as')}; nothing ran |"
    if (noise := manifest.get("noise")) is not None:
        yield f"| noise | {_noise(noise)} |"
    calibration = manifest.get("calibration")
    if calibration is not None:
        rows = f"{calibration['rows']} rows of {markdown(Path(calibration['data']).name)}"
        yield f"| calibrated on | {rows}, cut at {calibration['max_length']} tokens |"
    yield f"| size | {megabytes(size_mb)} MB of graph and weights |"


def _int8(check: Int8, done: str) -> str:
    """What the certificate found, in words of its own: shares of time differ from run to run."""
    if not check["planned"]:
        return "none: no GEMM is planned in INT8"
    return (
        f"{check['executed']} of {check['planned']} planned GEMMs {done} {name_of(check)}, which "
        f"is {percent(check['flops_share'])} of the FLOPs of all products with weights"
    )


def _noise(noise: Noise) -> str:
    """Of the logits against FP32, and how many answers are others."""
    rows = f"on {noise['rows']} rows of {markdown(Path(noise['data']).name)}"
    if noise["equal"]:
        return f"none: the logits are those of FP32 {rows}"
    if not noise["finite"]:
        return f"the logits are not finite {rows}"
    level = "unknown" if noise["sqnr_db"] is None else f"{decibels(noise['sqnr_db'])} dB"
    text = f"logits have an SQNR of {level} against FP32 {rows}"
    if noise["flipped"] is not None:
        text += f"; {noise['flipped']} of {noise['answers']} answers differ"
    return f"{text}; simulated on a CPU" if noise["simulated"] else text


def _ways(directory: Path, manifest: EngineFields, head: Head) -> Iterator[str]:
    """Three ways to run it, or those that there are."""
    if _uncompiled(manifest):
        yield "Nothing here runs as it is. This measures its accuracy, with the graph on the CPU:"
        yield _code("sh", "qdeploy eval . --simulate --data ROWS")
        return
    call, texts = METHODS[head.task], texts_of_row(manifest)
    rows = '[("first text", "second text")]' if texts == 2 else '["a text"]'
    note = "" if texts else '  # of pairs: [("first text", "second text")]'
    yield "### With qdeploy"
    yield _code(
        "python",
        f'import qdeploy\n\nengine = qdeploy.load(".")\nprint(engine.{call}({rows})){note}',
    )
    yield "`qdeploy predict . ROWS.csv` answers the rows of a file."
    target = TARGETS[manifest["target"]]
    snippet = target.snippet()
    if target.script is not None:
        yield f"### With `{SCRIPT}`, without qdeploy"
        lines = [f"pip install {' '.join(snippet.packages)}"]
        if texts != 2:
            lines.append(f'python {SCRIPT} "a text"')
        if texts != 1:
            lines.append(f'python {SCRIPT} --pairs "first text" "second text"')
        yield _code("sh", "\n".join([*lines, f"python {SCRIPT} --help"]))
        yield f"{_SAME} {_NO_ANSWER}" if head.task == SPANS else _SAME
    yield f"### With {snippet.heading} alone"
    if snippet.language == "python":
        code = (
            f"{snippet.imports}\n{_tokenized(directory, manifest, texts)}\n{snippet.run}\n{_PRINT}"
        )
        yield _code("python", code)
        yield {EMBEDDINGS: _EMBEDDING, SPANS: _ENDS}.get(head.task, _WHAT)
    else:
        yield _code(snippet.language, snippet.run)
        yield (
            "`model.plan` takes int64 inputs [rows, tokens] and gives FP32 logits. It runs with "
            "the version of TensorRT that compiled it (`builder` in `qdeploy.json`). The command is"
            " of NVIDIA's own package, which has more than the one for Python."
        )


_BUILT = "These figures are of the build."
_FIGURES = f"{_BUILT} `qdeploy eval . --data ROWS` measures accuracy and speed on your rows."
_SAME = "Its answers are those of `qdeploy.load`. Copy what you need of it."
_NO_ANSWER = (
    "Pairs are a question and its context. Set `NO_ANSWER = 0.0` in it where no answer may be one "
    "(`handle_impossible_answer`)."
)
_ENDS = "This prints the logits of each token: as the first one of the answer, and as the last."
_WHAT = "This prints the logits. `config.json` names the classes (`id2label`)."
_EMBEDDING = (
    "`sentence_embedding` is the finished embedding; `token_embeddings` are the vectors of the "
    "tokens, without pooling."
)
_PRINT = "for name, values in outputs.items():\n    print(name, values)"


def _tokenized(directory: Path, manifest: EngineFields, texts: int) -> str:
    """Inputs of one row."""
    row = '"first text", "second text"' if texts == 2 else '"a text"'
    if before := default_prompt(manifest):
        row = f"{json.dumps(before, ensure_ascii=False)} + {row}"
    fields = {
        "input_ids": "tokens.ids",
        "attention_mask": "tokens.attention_mask",
        "token_type_ids": "tokens.type_ids",
    }
    named = ", ".join(f'"{name}": {fields[name]}' for name in manifest["inputs"])
    return f"""import numpy as np
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
{cutting(directory, manifest["max_length"])}
tokens = tokenizer.encode({row})
rows = {{{named}}}
feeds = {{name: np.array([row], np.int64) for name, row in rows.items()}}
"""


def _files(directory: Path) -> Iterator[str]:
    yield "| file | |\n|---|---|"
    for name, what in _FILES.items():
        if (directory / name).is_file() or name == "qdeploy.json":
            yield f"| `{name}` | {what} |"


def _code(language: str, text: str) -> str:
    return f"```{language}\n{text.strip()}\n```"
