"""The machine: what it refuses, what is installed, its cores, its processes."""
