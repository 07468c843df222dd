"""Statistics, ranges, grouping, plans, and one file per strategy; `qdeploy.calibrate(...)` too."""
