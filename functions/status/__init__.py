"""What targets tell becomes reports."""
