"""The HTTP API: the same handler behind API Gateway and behind the HTTP server of one machine."""
