"""What a quantized file loses against its FP32 file: `qdeploy inspect FILE --against FP32`."""
