"""An ONNX file of a fine-tuned encoder in the canonical form, whoever's exporter wrote it."""
