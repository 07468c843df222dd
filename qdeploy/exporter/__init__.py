"""Checkpoint → canonical FP32 ONNX; the one room that knows torch and transformers."""
