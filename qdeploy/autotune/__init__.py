"""Several engines are built and one is kept: strategy, target, treatment, timing."""
