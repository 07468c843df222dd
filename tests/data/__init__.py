"""Tests of qdeploy.data."""
