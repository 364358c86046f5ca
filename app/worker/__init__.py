"""The worker: runs a model in its own Python and answers the service over a Unix socket.

These files are copied into a container of the model's image. They run on Python 3.9 to 3.14 with what the environment
of the model has: MLflow (or mlflow-skinny), pandas and NumPy. Nothing here imports other parts of the service.
"""
