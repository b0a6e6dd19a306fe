"""Measurements: they print what they measured, and never assert a time."""
