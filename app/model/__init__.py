"""The model: its files, its columns, and its predictions. No HTTP in this package."""
