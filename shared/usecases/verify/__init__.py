"""Checks what must always hold, on a real history: `runfold verify`, and the same checker in tests and simulation.

The rules of a run and of a workflow are kept track of here a second time, by other means than the fold that decisions stand on, so
that a mistake there is not repeated here. A history of which this finds nothing:

I1 bound each attempt to one execution at most, and each execution to one attempt · I2 left no doubt but by evidence, policy or a
named person · I3 changed nothing that had ended · I4 started no job whose condition did not hold · I5 never had more under way than
allowed · I6 made each scheduled instant exactly one of run, skip or miss · I7 has a due row for all that lives · I8 folds to what
the views show · I9 is dense and unaltered · I11 names a cause for every commit · I12 confirmed or flagged every stop · I13 holds no
secret that looks like one · I14 repeated no job that a rerun kept. (I10, that order and repetition of reports do not matter, is a
property of the rules, not of one history.)
"""

from shared.usecases.verify.store import Derive, Progress, verify, verify_stream
from shared.usecases.verify.violation import Handles, Violation

__all__ = ["Derive", "Handles", "Progress", "Violation", "verify", "verify_stream"]
