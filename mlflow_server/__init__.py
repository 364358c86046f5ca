"""Programs of the MLflow server image: the preparation of a start, and the check of a release."""
