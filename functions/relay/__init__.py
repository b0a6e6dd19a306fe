"""The table's stream becomes views, bells and metrics."""
