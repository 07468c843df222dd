"""Which sites and channels spoil INT8, why, and what mends it; `qdeploy.analyze(...)` too."""
