"""Deliberate bugs, kept, and the command that puts each into a copy of the tree to see whether a test notices. `docs/mutants.md` tells of each.

`python -m tests.mutants [NAME...]` tries all of them, or those whose names begin so.
"""
