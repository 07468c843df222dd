"""An estimate of a compiled engine's latency, by layer and device; nothing in it is measured."""
