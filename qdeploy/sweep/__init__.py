"""Many engines of one model, measured alike and compared; `qdeploy.sweep(...)` too."""
