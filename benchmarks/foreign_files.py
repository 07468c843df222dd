"""What files of other quantizers lose, as the hub has them: made here, and held against FP32.

    python benchmarks/foreign_files.py --data DIR --limit 1000

DIR is a GLUE QNLI directory. The embedded checkpoint is exported by Optimum (TorchScript), and
quantized by each maker's own tool in an environment of its own. Every file goes through
`qdeploy inspect FILE --against FP32`; the last row is qdeploy's `peg`, built from the same model.
A tool that does not install, or fails, is a row with the reason. What a run has made in --work,
the next one keeps. Writes benchmarks/results/foreign-files-DATE.json and the same as Markdown.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

from machine import heading, keep  # benchmarks/machine.py
from peers_builders import python_of, save_checkpoint, save_feeds  # benchmarks/peers_builders.py
from runners import THREADS  # benchmarks/runners.py

import qdeploy
from qdeploy.data.rows import sample_rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.errors import QDeployError, QDeployWarning
from qdeploy.files.artifact import sha256_file
from qdeploy.names import short_name

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TOKENS, ROWS = 128, 128  # of a row of QNLI; rows that calibrate
# File → environment that makes it, in the order of the table; benchmarks/foreign_files_build.py.
PRESETS = ("avx2", "avx512_vnni", "arm64")
TOOLS = {
    **{f"optimum-dynamic-{preset}": ".venv-sentence" for preset in PRESETS},
    **{f"optimum-static-{preset}": ".venv-sentence" for preset in PRESETS},
    **{f"sentence-transformers-{preset}": ".venv-sentence" for preset in PRESETS},
    "transformers.js-q8": ".venv-sentence",
    "transformers.js-fp16": ".venv-sentence",
    "olive-dynamic": ".venv-olive",
    "nncf": ".venv-sentence",
    "quark-int8-transformer": ".venv-quark",
    "inc-dynamic": ".venv-inc",
    "inc-static": ".venv-inc",
}
OURS = "qdeploy-peg"


def prepare(work: Path, data: Path) -> None:
    """Model directory, checkpoint, calibration batches, and the FP32 file in the hub's layout."""
    if not (work / "model").exists():
        qdeploy.export("embedded", work / "model")
    if not (work / "checkpoint").exists():
        save_checkpoint("embedded", work / "model", work / "checkpoint")
    if not (work / "feeds.npz").exists():
        encoder = TextEncoder.from_directory(work / "model")
        save_feeds(encoder, sample_rows(data, ROWS, 0), work / "feeds.npz", fixed=True)
    hub = work / "hub"
    if not hub.exists():
        made = run_tool("export", ".venv-sentence", work / "checkpoint", work)
        shutil.copytree(Path(made["file"]).parent, work / "hub.new")
        (work / "hub.new" / "onnx").mkdir()
        (work / "hub.new" / "model.onnx").rename(work / "hub.new" / "onnx" / "model.onnx")
        (work / "hub.new").rename(hub)


def run_tool(name: str, environment: str, hub: Path, work: Path) -> dict[str, Any]:
    """What foreign_files_build.py says of a file; {"error"} where it was not made."""
    told = work / "out" / f"{name}.json"
    if told.is_file():
        found: dict[str, Any] = json.loads(told.read_text("utf-8"))
        return found
    out = work / "out" / name
    shutil.rmtree(out, ignore_errors=True)
    try:
        python = python_of(environment)
    except (OSError, subprocess.CalledProcessError) as error:
        return {"error": f"not installed: {error}"[:300]}
    script = HERE / "foreign_files_build.py"
    command = [str(part) for part in (python, script, name, hub, work / "feeds.npz", out)]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.returncode:
        return {"error": lines[-1][:300] if lines else f"exit code {done.returncode}"}
    told.write_text(done.stdout.splitlines()[-1], "utf-8")
    found = json.loads(told.read_text("utf-8"))
    return found


def compared(name: str, file: Path, work: Path, data: Path, limit: int | None) -> Any:
    """The report of a file, with a page beside it; kept where it was made on as many rows."""
    reports = work / f"reports-{limit or 'all'}"
    reports.mkdir(exist_ok=True)
    path = reports / f"{name}.json"
    if not path.is_file():
        report = qdeploy.inspect_against(
            file,
            work / "hub" / "onnx" / "model.onnx",
            data=data,
            limit=limit,
            max_length=TOKENS,
            batch_size=32,
            threads=THREADS,
            html=reports / f"{name}.html",
        )
        path.write_text(json.dumps(report), "utf-8")
    return json.loads(path.read_text("utf-8"))


def line_of(name: str, report: Any) -> dict[str, Any]:
    """One line of the table."""
    base, own = report["subjects"][:2]
    figure = own["quality"]["figures"][0]
    products = report["products"]
    known = [p for p in products["products"] if p["alone_db"] is not None] if products else []
    worst = min(known, key=lambda p: p["alone_db"], default=None)
    # those whose codes prove it; of a product of two computed operands nothing is stored
    processors = report["found"]["processors"]
    saturating = [one for one in processors["saturating"] if one["largest_pair"] is not None]
    unproved = len(processors["saturating"]) - len(saturating)
    products_in_int8 = processors["products"] - unproved
    return {
        "label": name,
        "agreement": own["answers"]["agreement"],
        "agreement_ci95": own["answers"]["agreement_ci95"],
        "sqnr_db": own["answers"]["sqnr_db"],
        "max_abs_diff": own["answers"]["max_abs_diff"],
        "accuracy": figure["value"],
        "fp32_accuracy": base["metrics"]["accuracy"],
        "drop": figure["drop"],
        "drop_ci95": figure["drop_ci95"],
        "mcnemar_p": own["answers"]["mcnemar_p"],
        "constant_predictor": own["answers"]["constant_predictor"],
        "int8_share": own["int8_share"],
        "saturating": len(saturating),
        "int8_products": products_in_int8,
        "size_mb": own["size_mb"],
        "worst": worst,
        "products_together_db": products["together_db"] if products else None,
        "not_matched": len(products["not_matched"]) if products else 0,
        "rows": report["data"]["n"],
    }


def markdown_row(line: dict[str, Any]) -> str:
    """One line of the table as Markdown."""
    if "error" in line:
        return f"| {line['label']} | not made: {line['error']} |" + " |" * 8
    low, high = (100 * end for end in line["drop_ci95"])
    sqnr = "" if line["sqnr_db"] is None else f"{line['sqnr_db']:.1f}"
    constant = " CONSTANT PREDICTOR" if line["constant_predictor"] else ""
    saturates = f"{line['saturating']} of {line['int8_products']}" if line["saturating"] else "no"
    worst = line["worst"]
    costs = "" if worst is None else f"{short_name(worst['of'])}, {worst['alone_db']:.1f}"
    if line["not_matched"]:
        costs += f"{'; ' if costs else ''}{line['not_matched']} not known"
    label = line["label"]
    if line.get("same_as", label) != label:
        label += f" (the file of {line['same_as']})"
    return (
        f"| {label} | {100 * line['agreement']:.2f} | {sqnr} | "
        f"{100 * line['accuracy']:.2f}{constant} | "
        f"{100 * line['drop']:+.2f} ({low:+.2f} to {high:+.2f}) | {line['mcnemar_p']:.2g} | "
        f"{100 * line['int8_share']:.0f} | {saturates} | {costs} | {line['size_mb']:.1f} |"
    )


def markdown(result: dict[str, Any]) -> str:
    """The result as a page."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    names = ("file", "agreement %", "SQNR dB", "accuracy %", "drop, points (95 %)", "p", "INT8 %")
    names += ("can saturate", "costs most, dB alone", "MB")
    lines = [f"# Files of other quantizers, {result['date']}", "", f"`{result['command']}`", ""]
    lines += [f"{result['machine']}; {versions}", "", f"| {' | '.join(names)} |"]
    lines += ["|---" * len(names) + "|", *map(markdown_row, result["files"])]
    for environment, tools in result["tools"].items():
        listed = ", ".join(f"{name} {version}" for name, version in tools.items())
        lines += ["", f"{environment}: {listed}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="GLUE QNLI directory")
    parser.add_argument("--limit", type=int, help="the first rows only")
    parser.add_argument("--work", type=Path, default=Path("foreign-files"), help="what is made")
    args = parser.parse_args()
    warnings.simplefilter("ignore", QDeployWarning)
    args.work.mkdir(exist_ok=True)
    work = args.work.absolute()
    prepare(work, args.data)
    lines: list[dict[str, Any]] = []
    tools: dict[str, Any] = {}
    known: dict[str, str] = {}
    for name, environment in TOOLS.items():
        made = run_tool(name, environment, work / "hub", work)
        line = {"label": name, "error": made.get("error")}
        if "error" not in made:
            tools[environment] = made["versions"]
            file = Path(made["file"])
            digest = sha256_file(file)
            same = known.setdefault(digest, name)  # presets may make the same file, byte for byte
            try:
                report = compared(same, file, work, args.data, args.limit)
                line = line_of(name, report) | {"sha256": digest, "same_as": same}
            except QDeployError as error:
                line["error"] = str(error)[:300]
        lines.append(line)
        print(markdown_row(line), flush=True)
    engine = work / "peg"
    if not engine.exists():
        qdeploy.build(
            work / "model", engine, strategy="peg", data=str(args.data), max_length=TOKENS,
            calibration_rows=ROWS,
        )  # fmt: skip
    report = compared(OURS, engine, work, args.data, args.limit)
    lines.append(line_of(OURS, report))
    limit = f" --limit {args.limit}" if args.limit else ""
    result = heading(f"python benchmarks/foreign_files.py --data DIR{limit}", THREADS)
    result |= {"files": lines, "tools": tools}
    path = RESULTS / f"foreign-files-{result['date']}.json"
    result = keep(path, result)
    path.with_suffix(".md").write_text(markdown(result), "utf-8")
    print(markdown(result))


if __name__ == "__main__":
    main()
