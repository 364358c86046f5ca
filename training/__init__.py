"""Train an XGBoost model and register it in MLflow: `python -m training --help`."""

import os

# Read when libgomp and MLflow are loaded, so it has to stand before their first import. OpenMP threads that
# spin while they wait burn the CPU share of a container (measured: 0.25 s becomes 4 s under contention).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # which is for our JSON
# MLflow's own defaults wait four minutes for a server that is not there; a Job should end and be tried again.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
