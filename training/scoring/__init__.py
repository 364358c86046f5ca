"""Batch scoring of data sets, and contracts for models that were logged elsewhere."""
