"""The endpoints of the API, and its OpenAPI description."""
