"""The engine for one machine, with real processes and real files."""
