"""Metrics, latency and reports; `qdeploy.evaluate(...)` is a function too (docs/adr/0001)."""
