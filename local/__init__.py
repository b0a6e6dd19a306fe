"""The engine for one machine: the shared use cases in one process, over SQLite and real processes."""
