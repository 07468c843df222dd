"""ONNX Runtime's TensorRT provider."""
