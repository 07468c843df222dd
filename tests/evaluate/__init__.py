"""Tests of qdeploy.evaluate."""
