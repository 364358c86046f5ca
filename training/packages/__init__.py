"""Packages of models of other flavors: their environment, and locks of their requirements."""
