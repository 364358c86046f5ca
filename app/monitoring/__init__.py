"""Metrics, drift, feedback and payload logs."""
