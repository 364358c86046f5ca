"""HTTP service for one MLflow model. It imports neither `training` nor MLflow."""

__version__ = "0.1.0"
