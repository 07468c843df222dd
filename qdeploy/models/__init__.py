"""Which checkpoints exist, where their files are, and the embedded default; knows no torch."""
