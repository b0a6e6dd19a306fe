"""Envelopes from AWS, through the handlers."""
