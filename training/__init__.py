"""Training, promotion and batch scoring of XGBoost models: `python -m training --help`."""

import os

# libgomp and MLflow read these variables when they are imported. OpenMP threads that spin while they wait use up
# the CPU limit of a container (measured: 0.25 s becomes 4 s under contention).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is reserved for the JSON result
# MLflow's defaults wait four minutes for an unreachable server. A Job should fail instead, and be retried.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
