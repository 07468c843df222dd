"""The table of a campaign, as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.torture.ground import BAD

_MARK = "<!-- table: written by `make torture` -->"
_COLUMNS = ("tried", "worked", "clear", *BAD)


def write_table(path: Path, report: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Put the table behind the mark of a page; what stands before it is kept."""
    head = path.read_text("utf-8").split(_MARK)[0] if path.exists() else "# Reliability\n\n"
    parts = [_about(report), _table(report)]
    if before is not None:
        parts += [f"Before ({_about(before)[:-2]}):\n", _table(before)]
    path.write_text(f"{head}{_MARK}\n\n" + "\n".join(parts), "utf-8")


def _about(report: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return (
        f"{report['date']}, commit {report['commit']}, seed {report['seed']}, {report['machine']}, "
        f"{versions}.\n"
    )


def _table(report: dict[str, Any]) -> str:
    lines = [f"| class | {' | '.join(_COLUMNS)} |", "|---|" + "---:|" * len(_COLUMNS)]
    for name, entry in report["classes"].items():
        lines.append(f"| {name} | " + " | ".join(str(entry.get(c, 0)) for c in _COLUMNS) + " |")
    return "\n".join(lines) + "\n"
