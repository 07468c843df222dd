"""The campaign's command line; see the package."""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from random import Random
from typing import Any

from tests.torture import damaged, full, hostile, killed, named, placed, rows, together
from tests.torture.ground import BAD, Ground, Tally, dice, make_ground
from tests.torture.table import write_table

ROOT = Path(__file__).parent.parent.parent
Class = Callable[[Ground, Random, int, Tally], None]
# Name → what runs it, and how many runs in full and in the quick part.
CLASSES: dict[str, tuple[Class, int, int]] = {
    "outputs": (placed.run, 12, 1),
    "signals": (killed.run, 66, 3),
    "full disks": (full.run, 42, 3),
    "names": (named.run, 180, 16),
    "damaged directories": (damaged.run, 840, 25),
    "hostile ONNX": (hostile.run, 460, 20),
    "files of rows": (rows.run, 320, 20),
    "threads": (together.run, 1200, 160),
}


def campaign(
    project: Path, seed: int, runs: str, only: list[str] | None, home: Path
) -> dict[str, Any]:
    """Run classes; the report."""
    ground = make_ground(home, project)
    report: dict[str, Any] = {"classes": {}}
    for name, (run, whole, quick) in CLASSES.items():
        if only and name not in only:
            continue
        tally, began = Tally(), time.monotonic()
        run(ground, dice(seed, name), whole if runs == "full" else quick, tally)
        seconds = round(time.monotonic() - began)
        entry = {"tried": sum(tally.counts.values()), **tally.counts}
        report["classes"][name] = entry | {"seconds": seconds, "notes": tally.notes}
        print(name, entry, f"{seconds} s", file=sys.stderr, flush=True)
        for note in tally.notes[:20]:
            print("  ", note, file=sys.stderr, flush=True)
    return report | _about(project, seed, runs)


def _about(project: Path, seed: int, runs: str) -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "-C", str(project), "rev-parse", "--short", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    packages = ("onnx", "onnxruntime", "openvino", "tokenizers", "filelock", "msgspec")
    found = {name: metadata.version(name) for name in packages}
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit,
        "seed": seed,
        "runs": runs,
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": found,
    }


def main() -> int:
    """Exit code 1 where anything is bad."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", choices=("full", "quick"), default="full")
    parser.add_argument("--class", dest="only", action="append", choices=list(CLASSES))
    parser.add_argument("--project", type=Path, default=ROOT, help="the checkout under test")
    parser.add_argument("--json", type=Path, help="file for the counts")
    parser.add_argument("--out", type=Path, help="page for the table")
    parser.add_argument("--before", type=Path, help="counts of an earlier checkout, for the table")
    given = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        report = campaign(given.project.resolve(), given.seed, given.runs, given.only, home)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    if given.json:
        given.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", "utf-8")
    if given.out:
        before = json.loads(given.before.read_text("utf-8")) if given.before else None
        write_table(given.out, report, before)
    bad = sum(entry.get(name, 0) for entry in report["classes"].values() for name in BAD)
    print(f"{bad} bad runs", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
