"""Tests of qdeploy."""
