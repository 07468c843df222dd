"""Every tolerance of the tests that is not an exact comparison, with the reason beside it."""

from __future__ import annotations

# A value divided by its scale in FP32 and multiplied back: three roundings of 2^-24 each, of codes
# up to 255; in steps of the scale.
STEP_ROUNDING = 1e-4
# Sums of x … x⁴ of two halves against one pass: the same FP64 additions in another order.
SUM_ORDER = 1e-12
# Sums of products of some 400 rows in FP32, each addition off by half a step: of the trace.
PRODUCT_SUMS = 400 * 2.0**-24
# Statistics of a padded batch against the rows one by one: FP32 kernels add up in another order,
# two layers deep.
PADDED_BATCH = 1e-4
# SQNR of unit Gaussian data in an 8-bit min-max range of ±4.5σ: 10·log10(12·(255/9)²) = 39.8 dB.
GAUSSIAN_SQNR_FLOOR_DB = 39.0
# Symmetric activations lose half a level (254 steps over ±4.5σ), nothing more.
GAUSSIAN_SYMMETRIC_SQNR_FLOOR_DB = 38.9
# Weights per output channel, 256 Gaussian numbers each, max about 3σ:
# 20·log10(127/3) + 10.8 = 43.3.
WEIGHT_SQNR_FLOOR_DB = 42.0
# Expected noise against noise measured on a few thousand random rows: rounding errors are uniform
# and independent only nearly, and the sample has an error of its own.
NOISE_MODEL_DB = 1.0
# An equation computed in another order in FP64 and stored as FP32.
FP32_ROUNDING = 1e-6
# One product rounded by floats in the FP32 graph, against a file that multiplies it in integers:
# the same sums but for FP32 rounding, which now and then turns a code of the output into the next.
PRODUCT_ALONE_DB = 0.2
