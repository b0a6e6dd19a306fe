"""The engine of one machine under real torture: `python -m tests.torture`, told in docs/torture.md. Not collected by pytest."""
