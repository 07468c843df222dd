"""Engines laid out for what serves them: one file a format."""
