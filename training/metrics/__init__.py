"""Metrics of predictions for rows whose truth is known."""
