"""What ONNX Runtime's providers share."""
