"""ONNX Runtime's TensorRT-RTX provider."""
