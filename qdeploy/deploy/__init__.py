"""Lowering of plans, one file per target, engines and their certificates."""
