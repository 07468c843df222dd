"""The campaign's command line; see the package."""

from __future__ import annotations

import argparse
import datetime
import json
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

from tests.torture import damaged, full, hostile, killed, named, placed, rows, shared
from tests.torture.ground import BAD, Ground, Tally, dice, make_ground
from tests.torture.table import processor, write_table

ROOT = Path(__file__).parent.parent.parent
Class = Callable[[Ground, Random, int, Tally], None]
# Name → what runs it, and how many runs in full and in the quick part. A round of `publishing` is
# of eight kinds; `threads` are calls on each of two targets.
CLASSES: dict[str, tuple[Class, int, int]] = {
    "publishing": (placed.run, 12, 1),
    "signals": (killed.run, 72, 2),
    "disks": (full.run, 48, 4),
    "names": (named.run, 192, 12),
    "engines": (damaged.run, 860, 40),
    "onnx": (hostile.run, 480, 30),
    "data": (rows.run, 336, 24),
    "threads": (shared.run, 1200, 80),
}
_NOTES = 200  # of a class, kept in the report


def run_class(ground: Ground, name: str, seed: int, runs: str) -> Tally:
    """One class."""
    run, whole, quick = CLASSES[name]
    tally = Tally()
    run(ground, dice(seed, name), whole if runs == "full" else quick, tally)
    return tally


def campaign(
    project: Path, seed: int, runs: str, only: list[str] | None, home: Path
) -> dict[str, Any]:
    """Run classes; the report."""
    ground = make_ground(home, project)
    report: dict[str, Any] = _about(project, seed, runs) | {"classes": {}}
    for name in CLASSES:
        if only and name not in only:
            continue
        began = time.monotonic()
        tally = run_class(ground, name, seed, runs)
        entry = {"tried": sum(tally.counts.values()), **tally.counts}
        more = {"seconds": round(time.monotonic() - began), "skipped": tally.skipped}
        plain = (n.replace(str(home), "HOME").replace(str(project), "PROJECT") for n in tally.notes)
        notes = list(dict.fromkeys(plain))[:_NOTES]
        report["classes"][name] = entry | more | {"notes": notes}
        print(name, entry, more, file=sys.stderr, flush=True)
        for note in notes:
            print("  ", note, file=sys.stderr, flush=True)
    return report


def _about(project: Path, seed: int, runs: str) -> dict[str, Any]:
    git = ["git", "-C", str(project), "rev-parse", "--short", "HEAD"]
    packages = ("onnx", "onnxruntime", "openvino", "tokenizers", "filelock", "msgspec")
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # openvino is an extra
            continue
    return {
        "date": datetime.date.today().isoformat(),
        "commit": subprocess.run(git, capture_output=True, text=True).stdout.strip(),
        "seed": seed,
        "runs": runs,
        "machine": processor(),
        "versions": found,
    }


def main() -> int:
    """Exit code 1 where anything is bad."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", choices=("full", "quick"), default="full")
    parser.add_argument(
        "--class", dest="only", nargs="+", choices=list(CLASSES), metavar="NAME", help="some only"
    )
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
        given.json.write_text(json.dumps(report, indent=2, ensure_ascii=True) + "\n", "utf-8")
    if given.out:
        before = json.loads(given.before.read_text("utf-8")) if given.before else None
        write_table(given.out, report, before)
    bad = sum(entry.get(name, 0) for entry in report["classes"].values() for name in BAD)
    print(f"{bad} bad runs", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
