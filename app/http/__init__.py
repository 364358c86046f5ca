"""The HTTP layer: server, authentication, tracing, request bodies and static pages."""
