"""The table of a campaign, as a page."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from tests.torture.ground import BAD

MARK = "<!-- table: written by `make torture` -->"
_COLUMNS = ("tried", "worked", "clear", *BAD)
_TITLES = {
    "publishing": "outputs: writers, readers, `--force`, containers",
    "signals": "SIGKILL, SIGTERM, SIGINT at random moments",
    "disks": "full disks",
    "names": "names and paths",
    "engines": "damaged engines and models",
    "onnx": "hostile ONNX files",
    "data": "files of rows",
    "threads": "calls in 8 threads, both CPU targets",
}


def write_table(path: Path, report: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Put the table behind the mark of a page; what stands before it is kept."""
    head = path.read_text("utf-8").split(MARK)[0] if path.exists() else "# Reliability\n\n"
    path.write_text(f"{head}{MARK}\n\n{table(report, before)}", "utf-8")


def table(report: dict[str, Any], before: dict[str, Any] | None) -> str:
    """A row per class, and one above it of the code before; then where the figures are from."""
    lines = [
        f"| class | code | {' | '.join(_COLUMNS)} |",
        "|---|---|" + "---:|" * len(_COLUMNS),
    ]
    for name, entry in report["classes"].items():
        older = (before or {"classes": {}})["classes"].get(name)
        rows = [("before", older), ("now", entry)] if older else [("now", entry)]
        for at, (code, counts) in enumerate(rows):
            title = _TITLES.get(name, name) if at == 0 else ""
            cells = " | ".join(str(counts.get(column, 0)) for column in _COLUMNS)
            lines.append(f"| {title} | {code} | {cells} |")
    skipped = {why for entry in report["classes"].values() for why in entry.get("skipped", ())}
    parts = ["\n".join(lines) + "\n", *([_about("Before", before)] if before else [])]
    parts.append(_about("Now", report))
    if skipped:
        parts.append(f"Not tried on this machine: {'; '.join(sorted(skipped))}.\n")
    return "\n".join(parts)


def _about(code: str, report: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return (
        f"{code}: {report['date']}, commit {report['commit']}, seed {report['seed']}, "
        f"{report['runs']} runs, {report['machine']}, {versions}.\n"
    )


def processor() -> str:
    """What the campaign runs on."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        text = ""
    names = [x.split(":")[1].strip() for x in text.splitlines() if x.startswith("model name")]
    cpu = f"{len(names)} x {names[0]}" if names else platform.machine()
    return f"{cpu}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
