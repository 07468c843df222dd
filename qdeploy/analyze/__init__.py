"""Which sites and channels spoil INT8, why, and what mends it; `qdeploy.analyze(...)` too."""

from __future__ import annotations

from qdeploy._callable import make_callable

make_callable(__name__)
