"""ONNX files of anybody, read as bytes before any library opens them."""
