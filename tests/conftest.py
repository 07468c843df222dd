"""Settings of hypothesis for every folder."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no failure, and the same examples each time keep a failure reproducible.
settings.register_profile("qdeploy", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("qdeploy")
