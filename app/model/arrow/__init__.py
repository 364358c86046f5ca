"""Apache Arrow's IPC streams: rows of requests and predictions of responses (docs/decisions/0049)."""
