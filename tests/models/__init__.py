"""Tests of qdeploy.models."""
