"""From a plan to a graph: what the lowerings of all targets share."""
