"""Serve one MLflow model over HTTP. Never imports `training` or MLflow."""

__version__ = "0.1.0"
