"""Every encoder family through export and build: what is planned in INT8, what ran, and the noise.

    python benchmarks/families.py [--only bert,albert] [--out docs/families.md]

Tiny random checkpoints (two layers, planted outlier channels) of two hidden sizes are
exported, built with `--strategy peg` on ort-cpu, calibrated on 64 rows of qnli-mini, and compared
with FP32 on 64 others. Random weights say nothing about accuracy: what is measured is that each
architecture goes through whole, how much of its work is INT8, and how far its logits move.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from machine import heading  # benchmarks/machine.py
from transformers import AutoModelForSequenceClassification

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' own checkpoints

import qdeploy
from qdeploy.data.rows import read_rows
from qdeploy.errors import QDeployError, QDeployWarning
from qdeploy.sqnr import logit_sqnr_db
from tests.families import EXPORTED, REFUSED, tiny_config
from tests.tiny import tiny_checkpoint, tiny_tokenizer

SIZES = (32, 256)
ROWS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="family names, with commas between")
    parser.add_argument("--out", type=Path, help="file for the page; standard output without")
    args = parser.parse_args()
    warnings.simplefilter("ignore", QDeployWarning)
    chosen = [name for name in args.only.split(",") if name] or [*EXPORTED, *REFUSED]
    found = {}
    for name in chosen:
        print(name, file=sys.stderr, flush=True)
        sizes = SIZES if name in EXPORTED else SIZES[:1]  # a refusal has no size
        found[name] = [measured(name, hidden) for hidden in sizes]
    text = page(found, heading("python benchmarks/families.py --out docs/families.md", 2))
    if args.out is None:
        print(text)
    else:
        args.out.write_text(text, "utf-8")


def measured(family: str, hidden: int) -> dict[str, Any]:
    """One checkpoint: its figures, or the text that it is refused with."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if family in REFUSED:
            unbalanced(home / "checkpoint", family, hidden)
        else:
            tiny_checkpoint(home / "checkpoint", family, hidden=hidden)
        try:
            manifest = qdeploy.export(home / "checkpoint", home / "model")
            qdeploy.build(home / "model", home / "fp32", strategy="fp32")
            built = qdeploy.build(home / "model", home / "int8", calibration_rows=ROWS)
        except QDeployError as error:
            return {"refused": str(error).replace(folder, "")}
        exact, found = (logits(home / name) for name in ("fp32", "int8"))
        return {
            "verified": manifest["verification"]["max_abs_diff"],
            "gemms": f"{built['int8']['executed']}/{built['int8']['planned']}",
            "planned": built["int8"]["planned_share"],
            "int8": built["int8"]["flops_share"],
            "sqnr_db": logit_sqnr_db([(exact, found)], exclusive=True),
            "flips": int((found.argmax(1) != exact.argmax(1)).sum()),
            "size": built["size_mb"] / (1e-6 * (home / "fp32" / "model.onnx").stat().st_size),
            "largest_float": next((entry["kernel"] for entry in left(built["int8"])), ""),
        }


def unbalanced(directory: Path, family: str, hidden: int) -> None:
    """A checkpoint as it is made; not all of those that are refused run on any row."""
    config = tiny_config(family, hidden=hidden)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(directory)
    tiny_tokenizer(family).save_pretrained(directory)


def logits(engine: Path) -> Any:
    """Of rows that calibrated nothing, FP32 [N, classes]."""
    rows = read_rows("qnli-mini", task="qnli", split="evaluation", limit=ROWS)
    assert rows.second is not None
    pairs = list(zip(rows.first, rows.second, strict=True))
    return np.stack([row["logits"] for row in qdeploy.load(engine).logits(pairs)])


def left(int8: dict[str, Any]) -> list[dict[str, Any]]:
    """What stays in float and is more than a thousandth of the work."""
    return [entry for entry in int8["unplanned"] if entry["flops_share"] > 0.001]


def page(found: dict[str, list[dict[str, Any]]], about: dict[str, Any]) -> str:
    """The page of docs."""
    lines = ["# Families", "", INTRODUCTION, ""]
    lines += [f"`{about['command']}`, {about['date']}, {about['machine']},"]
    names = ("qdeploy", "onnxruntime", "transformers", "torch")
    versions = about["versions"]
    lines += [", ".join(f"{n} {versions[n]}" for n in names if n in versions) + ".", ""]
    titles = ["family", "hidden", "export: largest difference", "GEMMs", "planned %", "INT8 %"]
    titles += ["SQNR dB", f"flips of {ROWS}", "size / FP32", "float, largest"]
    lines += ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for family, sizes in found.items():
        for hidden, result in zip(SIZES, sizes, strict=False):
            if "refused" not in result:
                lines.append("| " + " | ".join(cells(family, hidden, result)) + " |")
    refused = {f: r["refused"] for f, sizes in found.items() for r in sizes if "refused" in r}
    if refused:
        lines += ["", "## Refused", "", REFUSALS, ""]
        lines += [f"- **{family}**: {reason(text)}" for family, text in refused.items()]
    return "\n".join(lines) + "\n"


INTRODUCTION = """\
Each row is a random checkpoint of two layers, with planted outlier channels, in one of two hidden
sizes. It goes through `export` and `build --strategy peg` on `ort-cpu`. The weights are random.
The figures therefore show how the architecture takes noise, and nothing about accuracy.

- *GEMMs*: in INT8, of those in the plan.
- *planned %* and *INT8 %*: shares of the FLOPs of all products with a constant operand.
- *SQNR dB*: of the logits against FP32, on 64 rows that calibrated nothing.
- *flips of 64*: answers that change on those rows.
- *float, largest*: the operator with the most float FLOPs, where they are above 0.1 % of all."""

REFUSALS = """\
`export` refuses these, with the reason named here. Fine-tune an encoder such as BERT,
RoBERTa, DeBERTa or ModernBERT instead."""


def reason(text: str) -> str:
    """Why a family is refused: its error's text without what all of them say."""
    text = re.sub(r"^\S+ names the architecture '\S+', (which cannot be exported: )?", "", text)
    text = text.removesuffix(" Fine-tune an encoder such as BERT, RoBERTa, DeBERTa or ModernBERT.")
    return re.sub(r": (\w+Error: .*)\. Correct", r". torch says `\1`. Correct", text)


def cells(family: str, hidden: int, result: dict[str, Any]) -> list[str]:
    return [
        family,
        str(hidden),
        f"{result['verified']:.0e}",
        result["gemms"],
        f"{100 * result['planned']:.1f}",
        f"{100 * result['int8']:.1f}",
        f"{result['sqnr_db']:.1f}",
        str(result["flips"]),
        f"{result['size']:.2f}",
        result["largest_float"],
    ]


if __name__ == "__main__":
    main()
