"""Tests of qdeploy/deploy/."""
