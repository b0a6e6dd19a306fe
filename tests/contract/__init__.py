"""What each port owes, run on every adapter."""
