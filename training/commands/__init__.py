"""The commands of `python -m training`, one module per verb."""
