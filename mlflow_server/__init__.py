"""What the MLflow server's image runs beside MLflow: the preparation of a start, and the check of a release."""
