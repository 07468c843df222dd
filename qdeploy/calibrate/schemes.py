"""Names of the ways in which activations are coded."""

from __future__ import annotations

ASYMMETRIC = "asymmetric"  # uint8 with a zero point
SYMMETRIC = "symmetric"  # int8 without one
SCHEMES = (ASYMMETRIC, SYMMETRIC)  # of 8-bit integers, as typed after --activations
E4M3 = "e4m3"  # FP8, of the strategy fp8
