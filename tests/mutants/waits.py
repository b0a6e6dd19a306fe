"""Bugs in waiting for what is outside a run."""

from tests.mutants.mutant import Mutant

_DECIDE = "shared/decide/waits.py"
_LOOKS = "shared/usecases/waits.py"
_SNAPSHOT = "shared/state/snapshot.py"
_WAITABLE = "shared/usecases/waitable.py"

_RULES = ("tests/rules/test_waits.py",)
_ENGINE = ("tests/engine/test_waits.py",)
_REGISTERED = ("tests/rules/test_waits_registered.py",)

WAITS = (
    Mutant(
        "deadline-before-what-was-found",
        _DECIDE,
        "    if finding is not None:\n        there = finding.there and",
        "    if finding is not None and not (wait.deadline_at is not None and wait.deadline_at <= looked_at):\n"
        "        there = finding.there and",
        _RULES,
    ),
    Mutant(
        "deadline-judged-by-an-older-look",
        _DECIDE,
        "min(command.looked_at, draft.now)",
        "draft.now",
        _RULES,
    ),
    Mutant(
        "one-of-several-waits-is-enough",
        "shared/state/waits.py",
        "    return any(not wait.ended for wait in gate) and failed(gate) is None\n",
        "    return all(not wait.ended for wait in gate) and failed(gate) is None\n",
        _RULES,
    ),
    Mutant(
        "looked-before-listed",
        _LOOKS,
        "            self._waiters.add(waiter)\n            if document",
        "            if document",
        _ENGINE,
    ),
    Mutant(
        "never-although-it-began-between-two-looks",
        _LOOKS,
        "        return fact if there else never\n",
        "        return never\n",
        _ENGINE,
    ),
    Mutant(
        "the-last-look-is-never-repaired",
        "shared/effects.py",
        "    if looks and (everything or min(looks) <= now):\n",
        "    if looks and everything:\n",
        _ENGINE,
    ),
    Mutant(
        "a-job-that-waits-is-undecided-after-a-snapshot",
        _SNAPSHOT,
        "            if phase.remaining == 0 and not is_open(read.gates.get(name, ()))\n",
        "            if phase.remaining == 0\n",
        _RULES,
    ),
    Mutant(
        "cycles-are-looked-for-in-this-document-only",
        _WAITABLE,
        "                if other is not None:\n                    documents[name] = other\n",
        "                if other is None:\n                    documents[name] = document\n",
        _REGISTERED,
    ),
)
