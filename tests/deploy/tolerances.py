"""What may differ, and why; every figure of these tests that is not exact stands here."""

from __future__ import annotations

# An INT8 kernel sums codes exactly in int32 and scales once; numpy sums FP32 products in another
# order. Relative to the largest output.
ROUNDING = 1e-5

# The same where values pass through several sites: each one that is quantized again can turn a
# difference of 1e-7 into a whole step when it lies on a tie. Share of outputs that may.
TIES = 0.01

# Reordered channels are summed in another order; the project's own limit for FP32 logits.
PERMUTED = 1e-4

# A code is the nearest one: half a step, and the rounding of FP32 on top.
HALF_STEP = 0.5 * (1 + 1e-5)

# SQNR in dB against FP32 that the output of every planned GEMM must reach, 16 calibration rows,
# noise of all the GEMMs before it included. Measured: 18.6 (ModernBERT, second layer) to 35. Not
# at the logits: rows of a random encoder differ so little there (by 0.04 of the pooled vector's
# size) that INT8 rounding is as large as the signal, which says nothing about the lowering.
GEMM_FLOOR_DB = 15.0

# Logits of the same engine in another process or another build of ONNX Runtime.
SAME_ENGINE = 1e-5

# FP16 keeps 11 bits, and products of some hundred sums lose a few of them. Relative to the largest.
HALF = 2e-3

# The same through a layer of three GEMMs, where a value beside the edge of a code takes the next
# one: a whole step, which the LayerNormalization and the GEMMs behind it spread.
HALF_LAYER = 2e-2

# OpenVINO rounds codes of ties its own way, and sums in another order. Relative to the largest.
OPENVINO = 0.01

# Sums of proved engines are the same on every processor; the float part rounds in another order,
# and a value on a tie may turn by a step. Logit SQNR against another processor's, dB.
OTHER_PROCESSOR_DB = 60.0
