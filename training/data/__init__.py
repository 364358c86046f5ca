"""Tables: reading, preprocessing for training, splitting, and the matrix of a model's columns."""
