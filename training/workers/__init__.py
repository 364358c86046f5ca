"""Several workers that train one model: their group and their data."""
