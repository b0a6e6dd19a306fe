"""Bugs in backfills: `shared/decide/backfill.py`, `shared/state/backfill.py`, and what carries them on."""

from tests.mutants.mutant import Mutant

_RULES = ("tests/rules/test_backfill.py",)
_CARRIED = ("tests/engine/test_backfills.py",)

BACKFILLS = (
    Mutant(
        "backfill-one-too-many",
        "shared/state/backfill.py",
        "and len(self.active) < self.request.max_active",
        "and len(self.active) <= self.request.max_active",
        _RULES,
    ),
    Mutant(
        "backfill-runs-again-what-is-active",
        "shared/decide/backfill.py",
        """        case "active":
            return "its run is active\"""",
        """        case "active":
            return "its run is active" if which != "all" else \"\"""",
        _RULES,
    ),
    Mutant(
        "backfill-success-of-the-future",
        "shared/decide/backfill.py",
        "previous_success_at=previous if previous is not None and previous < meant.first.at else None",
        "previous_success_at=previous",
        _RULES,
    ),
    Mutant(
        "backfill-cancel-misses-what-has-not-begun",
        "shared/usecases/backfills.py",
        "commands: list[Command] = [RequestRun(request), CancelRun(by, reason)]",
        "commands: list[Command] = [CancelRun(by, reason)] if isinstance(found, Run) else [RequestRun(request)]",
        _CARRIED,
    ),
    Mutant(
        "backfill-takes-anothers-run",
        "shared/usecases/backfills.py",
        """        assert isinstance(found, Run)
        if found.request.backfill != request.backfill:""",
        """        assert isinstance(found, Run)
        if found.request.backfill is None:""",
        _CARRIED,
    ),
    Mutant(
        "backfill-end-by-hearsay",
        "shared/usecases/backfills.py",
        """        if isinstance(found, Run) and found.request.backfill == effect.backfill and found.outcome is not None:
            self._told(effect.backfill, effect.run, found.outcome)""",
        """        if isinstance(found, Run) and found.request.backfill == effect.backfill:
            self._told(effect.backfill, effect.run, found.outcome or "succeeded")""",
        _CARRIED,
    ),
    Mutant(
        "backfill-lost-end-never-looked-for",
        "shared/effects.py",
        """        effects.append(CheckBackfill(state.backfill))
    return effects""",
        """        pass
    return effects""",
        (*_RULES, *_CARRIED),
    ),
)
