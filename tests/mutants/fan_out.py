"""Bugs in fan-out: `shared/state/fan.py`, `shared/decide/fan_out.py`, and what the fold and the rules of a run do about items."""

from tests.mutants.mutant import Mutant

_RULES = ("tests/rules/test_for_each.py", "tests/rules/test_for_each_walks.py")

FAN_OUT = (
    Mutant(
        "item-place-leaks",
        "shared/state/run.py",
        "return replace(fan, active=fan.active - 1, stopping=fan.stopping - wanted_to_end)",
        "return replace(fan, active=fan.active - wanted_to_end, stopping=fan.stopping - wanted_to_end)",
        _RULES,
    ),
    Mutant(
        "items-joined-early",
        "shared/state/fan.py",
        "        if self.left == 0:\n            return True",
        "        if self.left == self.resting.bit_count():\n            return True",
        _RULES,
    ),
    Mutant(
        "one-failure-too-many",
        "shared/state/fan.py",
        "return self.bad - self.bad_before > self.tolerated",
        "return self.bad - self.bad_before > self.tolerated + 1",
        _RULES,
    ),
    Mutant(
        "rerun-does-all-items",
        "shared/state/run.py",
        "if name not in named and not (event.failed and outcome in BAD_OUTCOMES):",
        "if name not in named and not event.failed:",
        _RULES,
    ),
    Mutant(
        "item-attempts-begin-again",
        "shared/state/run.py",
        "    attempts = removed.get(name, ())\n    if fan.todo",
        "    attempts = ()\n    if fan.todo",
        _RULES,
    ),
    Mutant(
        "list-as-large-as-it-comes",
        "shared/decide/fan_out.py",
        "    if size > ITEMS_BYTES_MAX:",
        "    if size > 100 * ITEMS_BYTES_MAX:",
        _RULES,
    ),
)
