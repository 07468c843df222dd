"""The same engines on other processors: logits under qemu's emulation against those of this one.

    python benchmarks/processors.py --data DIR [--rows 16] [--work DIR] [--arm SYSROOT] [--on NAME]

DIR is a GLUE QNLI directory. The embedded model as `peg` with `--cpu native` (before) and `any`
(after), as `peg` in the Q/DQ form of `openvino`, and as `dynamic`, in ONNX Runtime on the first
rows of the dev set, one row at a time; that form and FP32 in OpenVINO too. Here, and under
qemu-user (`apt-get install qemu-user`).
qemu 7.2 has no AVX-512, so all three x86 processors run kernels of AVX2. With `--arm` on ARM too:
`benchmarks/arm_sysroot.sh SYSROOT` makes that directory. Engines that stand in `--work` are taken.
Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from emulated_run import OPENVINO  # benchmarks/emulated_run.py
from machine import heading  # benchmarks/machine.py

import qdeploy
from qdeploy.data.rows import read_rows
from qdeploy.data.tokenize import TextEncoder
from qdeploy.errors import QDeployWarning
from qdeploy.sqnr import logit_sqnr_db

SCRIPT = Path(__file__).parent / "emulated_run.py"
TOKENS = 128
X86 = ("Haswell", "EPYC-Milan", "Skylake-Server")
# No signed pointers as ARM has them: emulating those takes most of the time.
ARM = {
    "neoverse-n1": "neoverse-n1",
    "max-without-sme": "max,pauth-impdef=on,sme=off",
    "max": "max,pauth-impdef=on",
}
ENGINES: dict[str, dict[str, Any]] = {
    "fp32": {"strategy": "fp32"},
    "peg-native": {"strategy": "peg", "cpu": "native"},
    "peg": {"strategy": "peg"},
    "peg-openvino": {"strategy": "peg", "target": "openvino"},
    "dynamic": {"strategy": "dynamic"},
}
IN_OPENVINO = ("fp32", "peg-openvino")  # engines that run in OpenVINO too
RUNS = (*ENGINES, *(f"{OPENVINO}{name}" for name in IN_OPENVINO))


def built(work: Path, data: Path) -> list[Path]:
    """Directories of the engines, made where they are not there."""
    if not (work / "model").is_dir():
        qdeploy.export("embedded", work / "model")
    for name, options in ENGINES.items():
        if not (work / name).is_dir():
            qdeploy.build(work / "model", work / name, data=str(data), measure=False, **options)
    return [work / name for name in ENGINES]


def write_feeds(engine: Path, data: Path, rows: int, path: Path) -> None:
    """The inputs of each row, as `emulated_run.py` reads them."""
    encoder = TextEncoder.from_directory(engine)
    taken = read_rows(str(data), task="qnli", split="evaluation").take(rows)
    batches = encoder.batches(encoder.encode(taken, max_length=TOKENS), 1)
    feeds = {f"{i}/{name}": x for i, one in enumerate(batches) for name, x in one.feeds.items()}
    np.savez(path, **feeds)  # type: ignore[arg-type]  # names are no options


def emulated(processor: str, sysroot: Path | None) -> list[str]:
    """The command that runs Python on a processor."""
    if processor in X86:
        return ["qemu-x86_64", "-cpu", processor, sys.executable]
    if sysroot is None:
        raise SystemExit(f"{processor} is an ARM core: name its --arm directory")
    home = ("-E", f"PYTHONHOME={sysroot}/usr", "-E", f"PYTHONPATH={sysroot}/wheels")
    python = str(sysroot / "usr/bin/python3.11")
    return ["qemu-aarch64", "-cpu", ARM[processor], "-L", str(sysroot), *home, python]


def outputs(command: list[str], files: list[str], feeds: Path) -> dict[str, Any]:
    """Logits [rows, classes] of each run, and the integer kernels that ran."""
    out = feeds.with_name("out.npz")
    whole = [*command, str(SCRIPT), str(feeds), str(out), *files]
    subprocess.run(whole, check=True, env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"})
    with np.load(out) as stored:
        return {name: stored[name] for name in stored.files}


def lines(processor: str, here: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """A line of the table per run."""
    told = []
    for index, name in enumerate(RUNS):
        exact, native, other = here["0"], here[str(index)], found[str(index)]
        db = [logit_sqnr_db([(x, other)], exclusive=True) for x in (native, exact)]
        turned = int((native.argmax(1) != other.argmax(1)).sum())
        kernels = str(found["operators"][index]) or "none"
        told.append(f"| {processor} | {name} | {db[0]:.1f} | {db[1]:.1f} | {turned} | {kernels} |")
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="GLUE QNLI directory")
    parser.add_argument("--rows", type=int, default=16, help="first rows of the dev set")
    parser.add_argument("--work", type=Path, help="keeps the model and its engines")
    parser.add_argument("--arm", type=Path, help="what benchmarks/arm_sysroot.sh made")
    parser.add_argument("--on", nargs="+", choices=[*X86, *ARM], help="these processors alone")
    args = parser.parse_args()
    warnings.simplefilter("ignore", QDeployWarning)
    with tempfile.TemporaryDirectory() as folder:
        directories = built(args.work or Path(folder), args.data)
        feeds = Path(folder) / "feeds.npz"
        write_feeds(directories[0], args.data, args.rows, feeds)
        files = [str(one / "model.onnx") for one in directories]
        files += [f"{OPENVINO}{files[list(ENGINES).index(name)]}" for name in IN_OPENVINO]
        here = outputs([sys.executable], files, feeds)
        about = heading(" ".join(sys.argv), 1)
        print(f"{about['date']}, {about['machine']}, {about['versions']}\n")
        print("| processor | engine | dB against here | dB against FP32 | answers | kernels |")
        print("|---|---|---|---|---|---|")
        print("\n".join(lines("here", here, here)), flush=True)
        for processor in args.on or (*X86, *(ARM if args.arm else ())):
            command = emulated(processor, args.arm.resolve() if args.arm else None)
            print("\n".join(lines(processor, here, outputs(command, files, feeds))), flush=True)


if __name__ == "__main__":
    main()
