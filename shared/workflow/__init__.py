"""The workflow document: its models, how it is read and checked, and the graph compiled from it."""
