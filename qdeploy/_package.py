"""The version of this package, and where it lies."""

from __future__ import annotations

from pathlib import Path

__version__ = "0.1.0"  # pyproject.toml has the same
PACKAGE = Path(__file__).parent
