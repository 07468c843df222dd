"""Where the real QNLI lies, for tests that read it: `QDEPLOY_QNLI`, or beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[3] / "shared" / "data" / "qnli"
QNLI = Path(os.environ.get("QDEPLOY_QNLI", _BESIDE))

needs_qnli = pytest.mark.skipif(
    not (QNLI / "dev.tsv").is_file(), reason="real QNLI is not here; set QDEPLOY_QNLI"
)
