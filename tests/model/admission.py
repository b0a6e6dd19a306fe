"""Admission: schedulers that tick, a queue, pauses, requests that are delivered twice, and ends that are lost, late or doubled.

The rules are ours (`decide_workflow`, the fold, `effects_of_workflow`, `pending_of_workflow`); the model adds the clock, the runs and who
hears what of whom. Time goes through a few instants of a schedule that ends, and then on, in leaps, for as long as anything is open.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from shared.decide.commands import (
    AdmitRun,
    PauseWorkflow,
    RegisterWorkflow,
    ReleaseRun,
    ResumeWorkflow,
    Tick,
    WorkflowCommand,
)
from shared.decide.workflow import decide_workflow
from shared.effects import CheckHolders, TickWorkflow, effects_of_workflow, pending_of_workflow
from shared.events import (
    Event,
    InstantSkipped,
    InstantsMissed,
    RunAdmitted,
    RunHeld,
    RunRequested,
    WatermarkMoved,
)
from shared.ids import Digest, RunId, WorkflowName, scheduled_run
from shared.state.workflow import NotRegistered, WorkflowState, evolve_workflow
from shared.workflow.document import Workflow
from shared.workflow.plan import Plan, compile_plan
from tests.model.checker import Step, Violation

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
EVERY = timedelta(minutes=10)
LEAP = timedelta(days=1)
NAME = WorkflowName("nightly")
RUNS_ON, NEVER = frozenset({"everything dealt with, let in and ended"}), frozenset[str]()


@dataclass(frozen=True)
class Setting:
    """What is explored."""

    overlap: Literal["allow", "skip", "queue", "cancel_running"] = "queue"
    limit: int = 1
    instants: int = 3
    keys: int = 1
    """Runs that people ask for; each request is delivered any number of times."""
    catchup: Literal["none", "latest", "all"] = "all"
    pauses: bool = True
    conflict: Literal["decide again", "ignore"] = "decide again"
    """What becomes of a tick that another commit has overtaken. Deciding again makes any number of schedulers one that ticks at any
    moment; `ignore` is a bug, explored with two that hold what they loaded."""
    open_before_commit: bool = False
    """A bug: the run is opened when its admission is decided, stored or not."""
    looks_at_holders: bool = True
    """False is a bug: nobody looks at runs that hold a place."""


class State(NamedTuple):
    workflow: int
    clock: int
    """Index of the last instant that has come; the one after the last stands for all later."""
    runs: tuple[str, ...]
    """Of each run, in the order of `names`: empty, admitted (not yet opened), active or ended."""
    verdicts: tuple[str, ...]
    """Of each instant: empty, run, skip or missed."""
    ticking: tuple[int, ...]
    """What each scheduler has loaded, where that matters; -1: it is idle."""


class AdmissionModel:
    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.instants = [NOON + (number + 1) * EVERY for number in range(setting.instants)]
        self.names = [scheduled_run(NAME, at) for at in self.instants] + [
            RunId(f"{NAME}@key{number}") for number in range(setting.keys)
        ]
        end = self.instants[-1].isoformat()
        rule = {
            "interval": {"every": "10 minutes", "anchor": NOON.isoformat()},
            "end": end,
            "catchup": setting.catchup,
            "catchup_max": 100,
        }
        document = {
            "name": NAME,
            "schedule": rule,
            "overlap": setting.overlap,
            "max_active_runs": setting.limit,
            "jobs": [{"name": "load", "type": "ssm", "host": "h", "commands": ["true"]}],
        }
        self.plan: Plan = compile_plan(Workflow.model_validate(document), Digest("d" * 64))
        self._states: list[WorkflowState] = []
        self._numbers: dict[object, int] = {}
        self._decided: dict[tuple[int, int, str], tuple[int, tuple[Event, ...], str]] = {}
        self._pending: dict[tuple[int, int], tuple[bool, bool]] = {}

    def now(self, clock: int) -> datetime:
        return [NOON + EVERY / 2, *self.instants, self.instants[-1] + LEAP][clock]

    # --- what the checker asks ------------------------------------------------------------------------------------------

    def first(self) -> Iterator[State]:
        workflow: NotRegistered | WorkflowState = NotRegistered()
        register = RegisterWorkflow(NAME, self.plan.digest, "ada")
        for event in decide_workflow(workflow, register, now=self.now(0), plans=self._plans):
            workflow = evolve_workflow(workflow, event, self.now(0))
        assert isinstance(workflow, WorkflowState)
        nothing = ("",) * len(self.names)
        idle = (-1, -1) if self.setting.conflict == "ignore" else ()
        yield State(self._number(workflow), 0, nothing, ("",) * len(self.instants), idle)

    def wrong(self, state: State) -> str:
        workflow = self._states[state.workflow]
        displaced = {run for run, holder in workflow.holders.items() if holder.displaced_by is not None}
        active = [
            run for run, is_ in zip(self.names, state.runs, strict=True) if is_ == "active" and run not in displaced
        ]
        if len(active) > self.setting.limit:
            return f"{len(active)} runs are active, and {self.setting.limit} may be: {', '.join(active)}"
        staying = [run for run in workflow.holders if run not in displaced]
        if len(staying) > self.setting.limit:
            return f"{len(staying)} runs hold a place, and there are {self.setting.limit}"
        return ""

    def goals(self) -> Mapping[str, Callable[[State], bool]]:
        (way,) = RUNS_ON
        return {way: self._done}

    def _done(self, state: State) -> bool:
        workflow = self._states[state.workflow]
        if any(one in {"admitted", "active"} for one in state.runs) or workflow.holders or workflow.waiting:
            return False
        return workflow.pause is not None or all(state.verdicts)

    def steps(self, state: State) -> Iterator[Step[State]]:
        now, workflow = self.now(state.clock), self._states[state.workflow]
        if state.clock <= len(self.instants):
            yield Step("time", state._replace(clock=state.clock + 1), RUNS_ON)
        else:
            yield Step("time", state._replace(workflow=self._older(state.workflow)), RUNS_ON)
        tick_wanted, look_wanted = self._wanted(state.workflow, state.clock, now)
        for slot, loaded in enumerate(state.ticking):
            if loaded < 0:
                yield Step(f"tick {slot} loads", self._ticking(state, slot, state.workflow), NEVER)
            else:
                idle = self._ticking(state, slot, -1)
                yield self._told(idle, f"tick {slot} commits", Tick(), NEVER, on=loaded)
        if not state.ticking:
            yield self._told(state, "tick", Tick(), RUNS_ON if tick_wanted else NEVER)
        if self.setting.pauses:
            yield self._told(state, "pause", PauseWorkflow("ada"), NEVER)
            yield self._told(state, "resume", ResumeWorkflow("ada"), NEVER)
        for run in self.names[len(self.instants) :]:
            yield self._told(state, f"request {run}", AdmitRun(self._request(run)), NEVER)
        for number, run in enumerate(self.names):
            is_ = state.runs[number]
            # A look finds what was admitted and never opened, and what ended and was not heard of.
            looks = RUNS_ON if look_wanted and run in workflow.holders and self.setting.looks_at_holders else NEVER
            if is_ == "admitted":
                yield Step(f"open {run}", self._with_run(state, number, "active"), looks)
            elif is_ == "active":
                yield Step(f"end {run}", self._with_run(state, number, "ended"), RUNS_ON)
            elif is_ == "ended":
                yield self._told(state, f"told {run}", ReleaseRun(run, "succeeded"), looks)

    def show(self, state: State) -> str:
        workflow = self._states[state.workflow]
        words = [f"{self.now(state.clock):%H:%M}", "instants " + "/".join(one or "-" for one in state.verdicts)]
        words += [f"{run} {is_}" for run, is_ in zip(self.names, state.runs, strict=True) if is_]
        words.append(f"holding {len(workflow.holders)}, waiting {[one.run for one in workflow.held]}")
        return ", ".join(words) + (", paused" if workflow.pause else "")

    # --- the workflow's stream ------------------------------------------------------------------------------------------

    def _told(
        self, state: State, label: str, command: WorkflowCommand, ways: frozenset[str], *, on: int | None = None
    ) -> Step[State]:
        before = state.workflow if on is None else on
        key = (before, state.clock, repr(command))
        known = self._decided.get(key)
        if known is None:
            known = self._decided[key] = self._decide(before, self.now(state.clock), command)
        after, events, wrong = known
        if wrong:
            raise Violation(label, wrong)
        runs, verdicts = list(state.runs), list(state.verdicts)
        for event in events:
            self._judge(label, event, verdicts)
        for effect in effects_of_workflow(events):
            request = getattr(effect, "request", None)
            if request is not None and not runs[self.names.index(request.run)]:
                runs[self.names.index(request.run)] = "admitted"
        stored = state._replace(workflow=after, runs=tuple(runs), verdicts=tuple(verdicts))
        if self.setting.open_before_commit and tuple(runs) != state.runs and label.startswith("tick"):
            # Decided, opened, and then the process ended before it stored anything.
            opened = tuple("active" if one == "admitted" else one for one in runs)
            return Step(label, state._replace(runs=opened), ways)
        return Step(label, stored, ways)

    def _decide(self, before: int, now: datetime, command: WorkflowCommand) -> tuple[int, tuple[Event, ...], str]:
        state = self._states[before]
        events = decide_workflow(state, command, now=now, plans=self._plans)
        after: NotRegistered | WorkflowState = state
        for event in events:
            assert isinstance(after, WorkflowState)
            wrong = self._out_of_turn(after, event)
            if wrong:
                return before, (), wrong
            after = evolve_workflow(after, event, now)
        assert isinstance(after, WorkflowState)
        return self._number(after), tuple(events), ""

    def _out_of_turn(self, before: WorkflowState, event: Event) -> str:
        """Who waited longer goes first."""
        if not isinstance(event, RunAdmitted):
            return ""
        waiting = [one.run for one in before.waiting]
        if event.run in waiting:
            return "" if event.run == waiting[0] else f"{event.run} is let in before {waiting[0]}"
        takes_a_place = self.setting.overlap == "cancel_running" and event.request.trigger == "schedule"
        return f"{event.run} is let in, and {waiting[0]} waits" if waiting and not takes_a_place else ""

    def _judge(self, label: str, event: Event, verdicts: list[str]) -> None:
        """I6, from what is stored: each instant becomes one thing, once, and none is passed over."""
        match event:
            case RunAdmitted() | RunHeld() if event.request.scheduled_at is not None:
                number = self.instants.index(event.request.scheduled_at)
                if isinstance(event, RunAdmitted) and verdicts[number] == "held":
                    verdicts[number] = "run"
                else:
                    self._set(label, verdicts, number, "run" if isinstance(event, RunAdmitted) else "held")
            case InstantSkipped():
                self._set(label, verdicts, self.instants.index(event.scheduled_at), "skip")
            case InstantsMissed():
                numbers = [n for n, at in enumerate(self.instants) if event.first_at <= at <= event.last_at]
                if len(numbers) != event.count:
                    raise Violation(label, f"I6: {len(numbers)} instants were missed, and {event.count} are told of")
                for number in numbers:
                    self._set(label, verdicts, number, "missed")
            case WatermarkMoved():
                for number, at in enumerate(self.instants):
                    if at <= event.until and not verdicts[number]:
                        raise Violation(label, f"I6: {at:%H:%M} was passed over")
            case _:
                pass

    def _set(self, label: str, verdicts: list[str], number: int, verdict: str) -> None:
        if verdicts[number]:
            raise Violation(label, f"I6: {self.instants[number]:%H:%M} was {verdicts[number]} and is now {verdict}")
        verdicts[number] = verdict

    def _wanted(self, workflow: int, clock: int, now: datetime) -> tuple[bool, bool]:
        """Whether a sweep hands over a tick, and a look at the holders."""
        key = (workflow, clock)
        if key not in self._pending:
            effects = pending_of_workflow(self._states[workflow], now)
            self._pending[key] = (
                any(isinstance(one, TickWorkflow) for one in effects),
                any(isinstance(one, CheckHolders) for one in effects),
            )
        return self._pending[key]

    def _older(self, number: int) -> int:
        """The same state much later, when every holder has been there for long."""
        state = self._states[number]
        holders = state.holders
        for run, holder in state.holders.items():
            if holder.admitted_at > NOON:
                holders = holders.set(run, replace(holder, admitted_at=holder.admitted_at - 2 * LEAP))
        return self._number(replace(state, holders=holders))

    def _number(self, state: WorkflowState) -> int:
        holders = state.holders
        for run, holder in state.holders.items():
            holders = holders.set(run, replace(holder, request=self._request(run)))
        held = tuple(replace(one, request=self._request(one.run), since=NOON, reason="") for one in state.held)
        pause = replace(state.pause, reason="") if state.pause is not None else None
        state = replace(state, holders=holders, held=held, pause=pause, previous_success_at=None, at=NOON)
        shown = tuple(sorted((run, one.admitted_at, one.displaced_by or "") for run, one in holders.items()))
        key = (state.watermark, state.next_at, pause and pause.at, shown, tuple(one.run for one in held))
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self._states)
            self._states.append(state)
        return known

    def _request(self, run: RunId) -> RunRequested:
        number = self.names.index(run)
        at = self.instants[number] if number < len(self.instants) else None
        return RunRequested(
            run=run,
            workflow=NAME,
            document=self.plan.digest,
            document_version=1,
            trigger="schedule" if at is not None else "manual",
            scheduled_at=at,
            admitted=True,
        )

    def _with_run(self, state: State, number: int, is_: str) -> State:
        return state._replace(runs=(*state.runs[:number], is_, *state.runs[number + 1 :]))

    def _ticking(self, state: State, slot: int, loaded: int) -> State:
        return state._replace(ticking=(*state.ticking[:slot], loaded, *state.ticking[slot + 1 :]))

    def _plans(self, digest: Digest) -> Plan:
        return self.plan
