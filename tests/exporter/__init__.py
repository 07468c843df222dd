"""Tests of qdeploy.exporter."""
