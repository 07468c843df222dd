"""Statistics, ranges, grouping, plans, and one file per strategy; `qdeploy.calibrate(...)` too."""

from __future__ import annotations

from qdeploy._callable import make_callable

make_callable(__name__)
