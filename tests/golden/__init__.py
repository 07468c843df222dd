"""Lowered graphs of a small encoder as text, one file per target and plan."""
