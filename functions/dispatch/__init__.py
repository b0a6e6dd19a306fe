"""Effects become calls to targets."""
