"""Repetition of a recorded training, and its comparison with the registered version."""
