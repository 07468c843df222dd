"""TensorRT-RTX: TensorRT for RTX GPUs, compiled on any machine."""
