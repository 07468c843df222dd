"""Graphs of GPU targets as `build --dry-run` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qdeploy.deploy.build import build_engine
from tests.deploy.conftest import Source


def dry_run(where: Source, output: Path, **options: Any) -> Path:
    baseline = options.get("strategy") in ("fp16", "fp32")
    usual = {"target": "tensorrt", "padding": "kept"}  # every tensor is looked at
    options = usual | {"statistics": None if baseline else where.statistics} | options
    build_engine(where.directory, output, dry_run=True, measure=False, **options)
    return output
