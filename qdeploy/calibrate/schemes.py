"""Names of the two activation schemes."""

from __future__ import annotations

ASYMMETRIC = "asymmetric"  # uint8 with a zero point
SYMMETRIC = "symmetric"  # int8 without one
SCHEMES = (ASYMMETRIC, SYMMETRIC)
