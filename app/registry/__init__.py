"""Access to the served model: MLflow's registry, the download, and loading."""
