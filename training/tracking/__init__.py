"""MLflow runs: their files, upload and registration."""
