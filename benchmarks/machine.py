"""What every result says about its run, and how sections of one day become one result."""

from __future__ import annotations

import datetime
import json
import platform
from pathlib import Path
from typing import Any

from qdeploy.files.artifact import package_versions, write_json


def processor() -> str:
    """Model name of the processor where Linux tells it, and its integer instructions."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.machine()
    name = next((x.split(":")[1].strip() for x in text.splitlines() if "model name" in x), "")
    known = ("avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    units = [unit for unit in known if unit in text]
    return f"{name} ({', '.join(units) or 'no VNNI'})"


def heading(command: str, threads: int) -> dict[str, Any]:
    """Date, command, machine and versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "command": command,
        "machine": f"{processor()}, {threads} threads",
        "versions": package_versions() | {"python": platform.python_version()},
    }


def keep(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Write a result as JSON, joined with the other sections of that day's; return the whole.

    What was not measured again stays: parts of a section, engines of a part, labelled lines.
    """
    path.parent.mkdir(exist_ok=True)
    if path.is_file():
        result = _joined(json.loads(path.read_text("utf-8")), result)
    write_json(path, result)
    return result


def _joined(known: Any, new: Any) -> Any:
    if isinstance(known, dict) and isinstance(new, dict):
        return known | {name: _joined(known.get(name), value) for name, value in new.items()}
    if _labelled(known) and _labelled(new):
        lines = {line["label"]: line for line in known} | {line["label"]: line for line in new}
        return list(lines.values())
    return new


def _labelled(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, dict) and "label" in x for x in value)
