"""Many engines of one model, measured alike and compared; `qdeploy.sweep(...)` too."""

from __future__ import annotations

from qdeploy._callable import make_callable

make_callable(__name__)
