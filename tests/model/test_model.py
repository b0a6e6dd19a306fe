"""What the models prove of our rules, and that they would notice: a bug put in is found, with the shortest way to it.

`RUNFOLD_MODEL=large` explores the larger settings as well; `python -m tests.model` prints the table.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.decide import run as decide_run
from shared.decide.commands import RecordReport, RecordSilence, ReleaseClaim
from shared.events import LateReported
from shared.usecases.dispatch import SEND_WITHIN, Dispatch
from tests.model import admission, dispatch
from tests.model.checker import Found, Step, Violation, explore
from tests.model.settings import LARGE, QUICK, model_of

LARGE_WANTED = os.environ.get("RUNFOLD_MODEL") == "large"


def explored(model: dispatch.DispatchModel | admission.AdmissionModel) -> Found:
    # The model's clocks agree; the margin for those that differ would only be another long bound.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{RUN}.SECOND_LOOK_AFTER", min(decide_run.SECOND_LOOK_AFTER, decide_run.LISTED_AFTER))
        # Each has states of its own kind, which only `explore` needs to know.
        if isinstance(model, dispatch.DispatchModel):
            return explore(model)
        return explore(model)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*QUICK, *(LARGE if LARGE_WANTED else ())])
def test_nothing_that_can_happen_breaks_a_property(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """I1, I2, I3, I6, I7 and I12, faults 1 to 4, 6, 8, 14, 15, 17, 20, 27, 31, 32, 34, 37, 42, 56 and 58: see docs/model.md."""
    found = explored(model_of({**QUICK, **LARGE}[name]))
    with capsys.disabled():
        print(f"\n{name}: {found.states:,} states, {found.transitions:,} transitions")
    assert not found.wrong, str(found)
    assert all(found.labels.values())


# --- the checker --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counter:
    """Counts to `last`; from there it may go to 99, where nothing leads on. `fair` edges lead to the goal."""

    last: int
    bad: int = -1
    dead_end: bool = False

    def first(self) -> Iterator[int]:
        yield 0

    def steps(self, state: int) -> Iterator[Step[int]]:
        if state < self.last:
            yield Step("count", state + 1, frozenset({"the last"}))
        if self.dead_end and state == 2:
            yield Step("fall", 99)
        if state == self.bad:
            raise Violation("leap", "never leap")

    def wrong(self, state: int) -> str:
        return "five" if state == 5 else ""

    def goals(self) -> dict[str, Callable[[int], bool]]:
        return {"the last": lambda state: state == self.last}

    def show(self, state: int) -> str:
        return str(state)


def test_the_shortest_way_to_a_wrong_state_is_shown() -> None:
    found = explore(Counter(9))
    assert (found.wrong, found.states) == ("five", 6)
    assert found.trace == ("at first", "    0", *(word for n in range(1, 6) for word in ("count", f"    {n}")))


def test_a_wrong_edge_is_the_last_step_of_its_way() -> None:
    found = explore(Counter(4, bad=2))
    assert (found.wrong, found.trace[-1]) == ("never leap", "leap")


def test_a_state_without_a_fair_way_to_the_goal_is_shown() -> None:
    assert not explore(Counter(4)).wrong
    found = explore(Counter(4, dead_end=True))
    assert "no way on to: the last" in found.wrong
    assert found.trace[-1] == "    99"


def test_a_model_without_end_is_given_up() -> None:
    with pytest.raises(MemoryError, match="more than 3 states"):
        explore(Counter(4), states_max=3)


# --- bugs put in --------------------------------------------------------------------------------------------------------

DISPATCH = "shared.usecases.dispatch"
RUN = "shared.decide.run"
NO_TOKEN = dispatch.Setting(dispatchers=1, people=False)
TWO = dispatch.Setting(people=False, second_only_starts=True)
TOKEN = dispatch.Setting(takes_token=True, dispatchers=1, people=False)
PEOPLE = dispatch.Setting(dispatchers=1)

Patch = Callable[[pytest.MonkeyPatch], None]


def _sends_late(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(f"{DISPATCH}.SENDING", -timedelta(days=1))


def _looks_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(f"{RUN}.SECOND_LOOK_AFTER", timedelta(0))


def _starts_what_is_in_doubt(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Dispatch, "start", lambda self, effect: self._start(effect, looked_at=self._now()))


def _counts_a_look_from_its_commit(patch: pytest.MonkeyPatch) -> None:
    told = Dispatch.report
    patch.setattr(Dispatch, "report", lambda self, report, looked_at=None: told(self, report))


def _sends_before_the_claim_is_stored(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Dispatch, "_claim", lambda self, *arguments: self._now() + SEND_WITHIN)


def _takes_silence_for_a_refusal(patch: pytest.MonkeyPatch) -> None:
    def released(job: Any, attempt: int, reason: str, claimer: str = "") -> ReleaseClaim:
        return ReleaseClaim(job, attempt, claimer, reason, 30.0)

    patch.setattr(f"{DISPATCH}.RecordSilence", released)


def _lets_silence_touch_every_claim(patch: pytest.MonkeyPatch) -> None:
    silence = RecordSilence
    patch.setattr(f"{DISPATCH}.RecordSilence", lambda job, attempt, reason, claimer="": silence(job, attempt, reason))


def _lets_late_reports_change_ends(patch: pytest.MonkeyPatch) -> None:
    from shared.state import run

    recorded = run._HANDLERS[LateReported]

    def changed(fold: Any, event: LateReported, at: datetime) -> None:
        recorded(fold, event, at)
        state = fold.jobs[event.job]
        if state.attempts:
            fold.jobs[event.job] = replace(
                state, attempts=tuple(replace(one, status="succeeded") for one in state.attempts)
            )

    patch.setitem(run._HANDLERS, LateReported, changed)


def _is_due_later_than_needed(patch: pytest.MonkeyPatch) -> None:
    from shared import effects

    due = effects.due_of_job
    patch.setattr(
        effects, "due_of_job", lambda run, name, now, **more: due(run, name, now, **more) + timedelta(minutes=5)
    )


def _never_looks_after_claims(patch: pytest.MonkeyPatch) -> None:
    from shared import effects
    from shared.state.run import Claimed

    pending = effects._pending_of_job

    def without_claims(run: Any, name: Any, state: Any, *more: Any) -> Any:
        return [] if isinstance(state.phase, Claimed) else pending(run, name, state, *more)

    patch.setattr(effects, "_pending_of_job", without_claims)


def _gives_up_doubt_at_once(patch: pytest.MonkeyPatch) -> None:
    kept = f"{RUN}._record_silence"

    def assumed(draft: Any, command: Any) -> None:
        from shared.decide import run

        phase = run._current(draft, command.job, command.attempt)
        if phase is not None:
            lost = RecordReport(command.job, command.attempt, "failed", reason="no answer")
            run._fail(draft, lost, "infrastructure", "no answer")

    patch.setattr(kept, assumed)


BUGS: dict[str, tuple[dispatch.Setting, Patch | None, str]] = {
    "silence of one touches the claim of another": (TWO, _lets_silence_touch_every_claim, "I1"),
    "a claim is sent late": (TWO, _sends_late, "I1"),
    "looked once only": (NO_TOKEN, _looks_once, "doubt was left"),
    "a repeated message starts what is in doubt": (NO_TOKEN, _starts_what_is_in_doubt, "I1"),
    "a look counts from its commit": (PEOPLE, _counts_a_look_from_its_commit, "stopped"),
    "sent before the claim is stored": (TWO, _sends_before_the_claim_is_stored, "I1"),
    "silence is taken for a refusal": (NO_TOKEN, _takes_silence_for_a_refusal, "I1"),
    "a twin is taken for oneself": (replace(TWO, conflict="twin is mine"), None, "I1"),
    "a conflict is ignored": (replace(TWO, conflict="ignore"), None, "I1"),
    "terminal is not final": (replace(PEOPLE, takes_token=True), _lets_late_reports_change_ends, "ended anew"),
    "the due row is later than needed": (NO_TOKEN, _is_due_later_than_needed, "is due"),
    "nobody looks after claims": (NO_TOKEN, _never_looks_after_claims, "no way on to: the end"),
    "another attempt takes the place of one in doubt": (
        replace(NO_TOKEN, attempts=2),
        _gives_up_doubt_at_once,
        "attempt 2 is sent while attempt 1 may be running",
    ),
    "a token is trusted for as long as it is remembered": (replace(TOKEN, remembers=2), None, "second time"),
    "lists show later than two looks are apart": (replace(NO_TOKEN, shows_after=3), None, "I1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_in_dispatch_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    setting, patch, tells = BUGS[bug]
    if patch is not None:
        patch(monkeypatch)
    found = explored(dispatch.DispatchModel(setting))
    assert tells in found.wrong, str(found)
    assert found.trace


WORKFLOW = "shared.decide.workflow"


def _one_too_many(patch: pytest.MonkeyPatch) -> None:
    from shared.decide.workflow import limit_of

    patch.setattr(f"{WORKFLOW}.limit_of", lambda document: (limit_of(document) or 0) + 1)


def _lets_newcomers_in_first(patch: pytest.MonkeyPatch) -> None:
    from shared.events import RunAdmitted

    patch.setattr(
        f"{WORKFLOW}._admit_or_wait",
        lambda draft, request, *_: draft.emit(RunAdmitted(run=request.run, request=request)),
    )


def _forgets_the_missed(patch: pytest.MonkeyPatch) -> None:
    from shared.decide.instants import ToMiss, verdicts

    patch.setattr(
        f"{WORKFLOW}.verdicts", lambda *given: (one for one in verdicts(*given) if not isinstance(one, ToMiss))
    )


def _does_not_move_the_watermark_while_full(patch: pytest.MonkeyPatch) -> None:
    from shared.decide.workflow import _move_watermark

    def moved(draft: Any, until: datetime) -> None:
        if not draft.registered.held:
            _move_watermark(draft, until)

    patch.setattr(f"{WORKFLOW}._move_watermark", moved)


def _lets_nobody_in_at_an_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(f"{WORKFLOW}._let_in", lambda draft: None)


QUEUE = admission.Setting(instants=2)
ADMISSION_BUGS: dict[str, tuple[admission.Setting, Patch | None, str]] = {
    "one more than the limit": (QUEUE, _one_too_many, "2 runs"),
    "newcomers go first": (replace(QUEUE, keys=2), _lets_newcomers_in_first, "waits"),
    "missed instants are not told": (replace(QUEUE, catchup="latest"), _forgets_the_missed, "passed over"),
    "an instant is dealt with twice": (replace(QUEUE, keys=2), _does_not_move_the_watermark_while_full, ""),
    "a conflict is ignored": (replace(QUEUE, conflict="ignore", pauses=False), None, "I6"),
    "opened before the commit": (replace(QUEUE, conflict="ignore", open_before_commit=True, pauses=False), None, ""),
    "a lost end is never looked for": (replace(QUEUE, looks_at_holders=False), None, "no way on"),
    "an end lets nobody in": (replace(QUEUE, pauses=False), _lets_nobody_in_at_an_end, "no way on"),
}


@pytest.mark.slow
@pytest.mark.parametrize("bug", ADMISSION_BUGS)
def test_a_bug_in_admission_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    setting, patch, tells = ADMISSION_BUGS[bug]
    if patch is not None:
        patch(monkeypatch)
    found = explore(admission.AdmissionModel(setting))
    assert found.wrong
    assert tells in found.wrong, str(found)
