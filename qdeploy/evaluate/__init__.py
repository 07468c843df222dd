"""Metrics, latency and reports; `qdeploy.evaluate(...)` is a function too (docs/adr/0001)."""

from __future__ import annotations

from qdeploy._callable import make_callable

make_callable(__name__)
