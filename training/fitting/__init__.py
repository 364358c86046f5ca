"""Boosters: the choice of the rounds, search, fit, checkpoints and evaluation."""
