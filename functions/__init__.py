"""The doorways on AWS: each handler parses, calls one use case and answers."""
