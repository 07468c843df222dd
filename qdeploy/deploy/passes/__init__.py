"""Rewrites of the whole FP32 graph, one file each."""
