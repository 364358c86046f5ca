"""Command-line clients of the service: checks and pre-promotion verification."""
