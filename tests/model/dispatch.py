"""claim ▸ dispatch ▸ bind ▸ terminal: two dispatchers, a sweep, what targets tell, people and time around one job's attempts.

The rules are ours, not the model's: the stream is `stream.RunStream`, and a dispatcher is the real `Dispatch`, run up to its next call
of a port, left there for as long as the model likes, and gone on with (it is run again with the answers it had so far, which it
cannot tell). The model adds the world: requests on their way, work at the target, and what may be heard of it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

from shared.decide.commands import Advance, AskAgain, CancelRun, MarkJob, RecordClaim, RunCommand
from shared.effects import AdvanceRun, Effect, ObserveAttempt, StartAttempt, StopAttempt
from shared.errors import Rejected, TargetRefused, TargetSilent, TargetUnavailable
from shared.ids import Handle, attempt_token
from shared.ports import Reference, Report
from shared.state.run import Claimed, Doubted
from shared.usecases.dispatch import Dispatch
from tests.model.checker import Step, Violation
from tests.model.stream import JOB, LONG, NOON, TICK, RunStream, moment

Ways = frozenset[str]
RUN_ENDS, STOPPED = "the end of the run", "a cancelled run's work stopped, or flagged"
BOTH: Ways = frozenset({RUN_ENDS, STOPPED})
NEVER: Ways = frozenset()


@dataclass(frozen=True)
class Setting:
    """What is explored. The defaults are the smallest world in which everything can happen once."""

    takes_token: bool = False
    attempts: int = 1
    dispatchers: int = 2
    second_only_starts: bool = False
    """Of two dispatchers, the second takes no messages but those to start: two that stop and look would be ten times as many states."""
    people: bool = True
    """Somebody may cancel the run, and mark the job when its attempt is in doubt or cannot be stopped."""
    policy: Literal["wait", "assume_lost", "ask"] = "wait"
    throttles: bool = True
    """The target may answer that it has no room."""
    refuses: bool = False
    """The target may answer that it will never take it."""
    window: int = 2
    """Ticks for which a token is known to be remembered."""
    remembers: int = 3
    """Ticks for which it is: a request takes up to one tick, so this must be longer than `window` by that."""
    shows_after: int = 1
    """Ticks until what began is in the target's lists."""
    conflict: Literal["decide again", "ignore", "twin is mine"] = "decide again"
    """What a dispatcher does about a claim that somebody else's commit has overtaken; all but the first are bugs."""

    def job(self) -> dict[str, Any]:
        budget = {"attempts": self.attempts}
        retry = {**budget, "delay_seconds": 30, "jitter": 0, "infrastructure": budget, "capacity": budget}
        what: dict[str, Any] = {"type": "ssm", "host": "h", "commands": ["true"]}
        if self.takes_token:
            what = {"type": "ecs", "image": "i", "command": ["true"]}
        return {**what, "retry": retry, "doubt": {"policy": self.policy, "after_minutes": 10}}


class Work(NamedTuple):
    """One attempt at the target. At most one execution of it ever begins; more are violations, not states."""

    status: str = ""
    """Empty, running, stopping, succeeded, failed or cancelled."""
    age: int = 0
    """Ticks since it began, as far as that matters."""


class Flight(NamedTuple):
    """A request that left its dispatcher."""

    attempt: int
    age: int = 0
    taken: bool = False


class Paused(NamedTuple):
    """A dispatcher in the middle of an effect, before a call. `history` is what it needs to get there again."""

    call: str
    """claim, claimed (stored, and not yet heard of), start, observe, stop; or commit, when all is done but storing what was learnt."""
    what: int
    """Number of what it asks for: see `Model._things`."""
    elapsed: int = 0
    """Ticks since it loaded the state, where it looks at the clock again."""
    history: tuple[Any, ...] = ()


_TELLS_TIME = frozenset({"claim", "claimed", "observe"})
"""Calls after which a dispatcher looks at the clock again."""


class Dispatcher(NamedTuple):
    doing: Paused | None = None
    flight: Flight | None = None


class State(NamedTuple):
    stream: int
    dispatchers: tuple[Dispatcher, ...]
    works: tuple[Work, ...]


class _Ask(BaseException):
    """The dispatcher came to a call that has no answer yet."""

    def __init__(self, call: str, what: Any) -> None:
        self.call, self.what = call, what


class DispatchModel:
    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.stream = RunStream(setting.job())
        self.run_id = self.stream.run(self.stream.first).run
        self._things: list[Any] = []
        self._numbers: dict[str, int] = {}
        self._replayed: dict[object, Paused | None] = {}
        self._late: dict[int, str] = {}
        self.effects = [
            *(kind(self.run_id, JOB, attempt) for attempt in self._attempts for kind in (StartAttempt, ObserveAttempt)),
            *(StopAttempt(self.run_id, JOB, attempt) for attempt in self._attempts),
        ]

    @property
    def _attempts(self) -> range:
        return range(1, self.setting.attempts + 1)

    # --- what the checker asks ------------------------------------------------------------------------------------------

    def first(self) -> Iterator[State]:
        idle = (Dispatcher(),) * self.setting.dispatchers
        yield State(self.stream.first, idle, (Work(),) * self.setting.attempts)

    def wrong(self, state: State) -> str:
        late = self._late.get(state.stream)
        if late is None:
            late = self._late[state.stream] = self.stream.late_due(state.stream)
        return late

    def goals(self) -> Mapping[str, Callable[[State], bool]]:
        return {RUN_ENDS: self._ended, STOPPED: self._stopped}

    def _ended(self, state: State) -> bool:
        phase = self.stream.job(state.stream).phase
        # Without a policy that gives up, what nobody can know may stay in doubt for ever: that is what was asked for.
        run = self.stream.run(state.stream)
        # Beyond the attempts that are modelled there is nothing to follow.
        return (
            run.finished
            or len(run.jobs[JOB].attempts) >= self.setting.attempts
            or (
                isinstance(phase, Doubted)
                and phase.policy != "assume_lost"
                and (phase.handle is not None or phase.policy == "ask" or self.setting.takes_token)
            )
        )

    def _stopped(self, state: State) -> bool:
        run = self.stream.run(state.stream)
        if run.cancel is None or run.flagged:
            return True
        attempts = run.jobs[JOB].attempts
        given_up = {one.attempt for one in attempts if one.assumed}
        works = [one for number, one in enumerate(state.works, start=1) if number not in given_up]
        on_their_way = any(one.flight is not None and not one.flight.taken for one in state.dispatchers)
        return run.finished and not on_their_way and not any(one.status == "running" for one in works)

    def steps(self, state: State) -> Iterator[Step[State]]:
        yield from self._time(state)
        yield from self._people(state)
        yield from self._target(state)
        for slot, dispatcher in enumerate(state.dispatchers):
            if dispatcher.doing is not None:
                yield from self._go_on(state, slot, dispatcher, dispatcher.doing)
            elif dispatcher.flight is None:
                yield from self._begin(state, slot)

    def show(self, state: State) -> str:
        job = self.stream.job(state.stream)
        phase = job.phase
        stop = getattr(phase, "stop", None)
        words = [job.status, *(f"#{one.attempt} {one.status}" for one in job.attempts)]
        if stop is not None:
            words.append("to be stopped" + (", flagged" if stop.flagged_at else ""))
        if isinstance(phase, Claimed):
            words.append(f"by {phase.claimer}, send before {_ticks(phase.send_before):+}")
        if isinstance(phase, Doubted):
            words.append(f"since {_ticks(phase.since):+}")
        for number, one in enumerate(state.works, start=1):
            words.append(f"work {number} {one.status or 'not begun'}")
        for slot, dispatcher in enumerate(state.dispatchers):
            if dispatcher.doing is not None:
                words.append(f"dispatcher {slot} before {dispatcher.doing.call}")
            if dispatcher.flight is not None:
                words.append(f"request {slot} {'taken' if dispatcher.flight.taken else 'on its way'}")
        return ", ".join(words)

    # --- the world ------------------------------------------------------------------------------------------------------

    def _time(self, state: State) -> Iterator[Step[State]]:
        # A request takes at most `SENDING`: one that is that old arrives, or is lost, before time goes on.
        flights = [one.flight for one in state.dispatchers if one.flight is not None and not one.flight.taken]
        if not any(flight.age for flight in flights):
            yield self._later(state, "time", 1)
        if not flights:
            yield self._later(state, "long", LONG)

    def _later(self, state: State, label: str, ticks: int) -> Step[State]:
        dispatchers = []
        for doing, flight in state.dispatchers:
            if doing is not None and _counts(doing):
                # Counted from when it last looked at the clock.
                since = doing.history[2][-1][1] if doing.call in _TELLS_TIME and doing.history[2] else 0
                long_past = ticks == LONG or doing.elapsed - since > LONG
                doing = doing._replace(elapsed=since + (LONG + 3 if long_past else min(doing.elapsed - since + 1, 3)))
            if flight is not None and not flight.taken:
                flight = flight._replace(age=flight.age + ticks)
            dispatchers.append(Dispatcher(doing, flight))
        oldest = max(self.setting.shows_after, self.setting.remembers + 1 if self.setting.takes_token else 0)
        works = tuple(
            one._replace(age=min(one.age + ticks, oldest if ticks == 1 or one.age <= oldest else LONG))
            if one.status and one.age < LONG
            else one
            for one in state.works
        )
        if ticks == LONG:
            works = tuple(one._replace(age=LONG) if one.status and self.setting.takes_token else one for one in works)
        return Step(label, State(self.stream.later(state.stream, ticks), tuple(dispatchers), works), BOTH)

    def _people(self, state: State) -> Iterator[Step[State]]:
        if not self.setting.people:
            return
        run, phase = self.stream.run(state.stream), self.stream.job(state.stream).phase
        if run.cancel is None and not run.finished:
            yield self._told(state, "cancel", CancelRun("ada"), NEVER)
        stop = getattr(phase, "stop", None)
        if isinstance(phase, Doubted) or (stop is not None and stop.flagged_at is not None):
            yield self._told(state, "mark", MarkJob(JOB, "failed", "ada", "looked at it"), NEVER)

    def _target(self, state: State) -> Iterator[Step[State]]:
        if any(isinstance(one, AdvanceRun) for one in self.stream.pending(state.stream)):
            yield self._told(state, "sweep advance", Advance(), BOTH)
        for slot, (doing, flight) in enumerate(state.dispatchers):
            if flight is not None and not flight.taken:
                yield from self._arrival(state, slot, doing, flight)
        for attempt in self._attempts:
            work = state.works[attempt - 1]
            if not work.status:
                continue
            if work.status in {"running", "stopping"}:
                ends = frozenset({RUN_ENDS})
                yield Step(f"work {attempt} succeeds", self._with_work(state, attempt, "succeeded"), ends)
                if self.setting.attempts > 1:
                    yield Step(f"work {attempt} fails", self._with_work(state, attempt, "failed"), ends)
            if work.status == "stopping":
                yield Step(f"work {attempt} is ended", self._with_work(state, attempt, "cancelled"), BOTH)
            # ECS's events are guaranteed; those of the others may all be lost. Any may come late, twice and in any order.
            heard = BOTH if self.setting.takes_token else NEVER
            status = "running" if work.status == "stopping" else work.status
            yield self._heard(state, attempt, status, heard)
            if status != "running":
                yield self._heard(state, attempt, "running", NEVER)

    def _arrival(self, state: State, slot: int, doing: Paused | None, flight: Flight) -> Iterator[Step[State]]:
        work = state.works[flight.attempt - 1]
        label = f"arrives {slot}"
        remembered = self.setting.takes_token and work.status and work.age <= self.setting.remembers
        if work.status and not remembered:
            raise Violation(label, f"I1: attempt {flight.attempt} is executed a second time")
        landed = flight._replace(taken=True) if doing is not None else None
        after = _with_dispatcher(state, slot, Dispatcher(doing, landed))
        yield Step(label, after if remembered else self._with_work(after, flight.attempt, "running", age=0), BOTH)
        yield Step(f"lost {slot}", _with_dispatcher(state, slot, Dispatcher(doing, None)), BOTH)

    def _heard(self, state: State, attempt: int, status: Any, ways: Ways) -> Step[State]:
        report = self._report(attempt, status)
        return self._told(state, f"heard {attempt} {status}", self._dispatch("status").report(report)[1], ways)

    def _told(self, state: State, label: str, command: RunCommand, ways: Ways) -> Step[State]:
        return Step(label, state._replace(stream=self._commit(state, label, [command])), ways)

    def _report(self, attempt: int, status: Any, *, handle: bool = True, cut_short: bool = False) -> Report:
        token = attempt_token(self.run_id, JOB, attempt)
        failure: Any = "user" if status == "failed" else None
        named = Handle(f"h{attempt}") if handle else None
        return Report(token, self.run_id, JOB, attempt, status, named, failure=failure, cut_short=cut_short)

    def _with_work(self, state: State, attempt: int, status: str, *, age: int | None = None) -> State:
        works = list(state.works)
        works[attempt - 1] = Work(status, works[attempt - 1].age if age is None else age)
        return state._replace(works=tuple(works))

    def _commit(self, state: State, label: str, commands: Sequence[RunCommand]) -> int:
        committed = self.stream.commit(state.stream, commands, repr(commands))
        if committed.wrong:
            raise Violation(label, committed.wrong)
        return committed.state

    # --- dispatchers ----------------------------------------------------------------------------------------------------

    def _begin(self, state: State, slot: int) -> Iterator[Step[State]]:
        """Take a message. Any that was ever sent may come at any time, again, or never; so may those that never were."""
        # Who recorded a stray hands over its stop, and whoever reports it again does so again.
        strays = self._strays(state.stream)
        handed_over = {*self.stream.pending(state.stream), *strays}
        for effect in [*self.effects, *strays]:
            if slot and self.setting.second_only_starts and not isinstance(effect, StartAttempt):
                continue
            doing = self._run(slot, effect, self.stream.seen(state.stream), ())
            if doing is None:
                continue
            ways = BOTH if effect in handed_over else NEVER
            words = f"{type(effect).__name__.removesuffix('Attempt')} {effect.attempt}"
            yield self._paused(state, f"take {slot} {words}", slot, doing, ways)

    def _strays(self, stream: int) -> list[StopAttempt]:
        job = self.stream.job(stream)
        found = dict(job.strays or {})
        found |= {one.handle: one.attempt for one in job.attempts if one.assumed and one.handle is not None}
        return [StopAttempt(self.run_id, JOB, attempt, handle) for handle, attempt in sorted(found.items())]

    def _paused(self, state: State, label: str, slot: int, doing: Paused, ways: Ways) -> Step[State]:
        flight = None
        if doing.call == "start":
            # From here on it is on its way: whatever keeps the sender is part of what a request may take.
            attempt = self._things[doing.what]
            flight = Flight(attempt)
            self._nothing_before(state, label, attempt)
            if not self.setting.takes_token:
                others = [one.flight for one in state.dispatchers if one.flight is not None]
                if state.works[attempt - 1].status or any(one.attempt == attempt for one in others):
                    raise Violation(
                        label, f"I1: attempt {attempt} is sent again while the first request may have been heard"
                    )
        return Step(label, _with_dispatcher(state, slot, Dispatcher(doing, flight)), ways)

    def _nothing_before(self, state: State, label: str, attempt: int) -> None:
        """What takes the place of an attempt must not run beside it, unless a policy or a person gave that one up."""
        ended = self.stream.job(state.stream).attempts
        given_up = {one.attempt for one in ended if one.assumed}
        for earlier in range(1, attempt):
            flying = any(one.flight is not None and one.flight.attempt == earlier for one in state.dispatchers)
            going_on = flying or state.works[earlier - 1].status in {"running", "stopping"}
            if going_on and earlier not in given_up:
                raise Violation(label, f"I1: attempt {attempt} is sent while attempt {earlier} may be running")

    def _go_on(self, state: State, slot: int, dispatcher: Dispatcher, doing: Paused) -> Iterator[Step[State]]:
        # A crash leaves what was sent; the message comes again, or another like it.
        flight = dispatcher.flight
        left = flight if flight is not None and not flight.taken else None
        yield Step(f"crash {slot}", _with_dispatcher(state, slot, Dispatcher(None, left)))
        idle = _with_dispatcher(state, slot, Dispatcher(None, left))
        match doing.call:
            case "commit":
                learnt = [_moved(command, doing.elapsed) for command in self._things[doing.what]]
                stream = self._commit(state, f"commit {slot}", learnt)
                yield Step(f"commit {slot}", idle._replace(stream=stream), BOTH)
            case "claim":
                after, allowed = self._claim(state, slot, doing)
                if allowed:
                    # It is stored, and the claimer does not know yet.
                    stored = Dispatcher(doing._replace(call="claimed"), dispatcher.flight)
                    yield Step(f"claim {slot}", _with_dispatcher(after, slot, stored), BOTH)
                else:
                    yield from self._answered(after, f"claim {slot} rejected", slot, doing, False)
            case "claimed":
                yield from self._answered(state, f"hears {slot} of its claim", slot, doing, True)
            case "start":
                yield from self._responses(state, slot, dispatcher, doing)
            case "observe":
                for seen in self._seen(state, self._things[doing.what]):
                    yield from self._answered(state, f"observe {slot} {seen}", slot, doing, seen)
            case "stop":
                reference, leads_to = self._things[doing.what], _leads_to(doing)
                work = state.works[reference.attempt - 1]
                after = state
                if work.status == "running" and (reference.handle is not None or work.age >= self.setting.shows_after):
                    after = self._with_work(state, reference.attempt, "stopping")
                yield self._learnt(after, f"stop {slot}", slot, leads_to["done"], BOTH)
                yield self._learnt(state, f"stop {slot} unavailable", slot, leads_to["unavailable"], NEVER)
            case call:
                raise AssertionError(call)

    def _claim(self, state: State, slot: int, doing: Paused) -> tuple[State, bool]:
        command: RecordClaim | AskAgain = self._things[doing.what]
        # It was made when the dispatcher's own clock was at the moment of the decision, some ticks ago.
        moved = _moved(command, doing.elapsed)
        committed = self.stream.commit(state.stream, [moved], repr(moved))
        phase = self.stream.job(state.stream).phase
        if committed.rejected and isinstance(phase, Claimed) and self.setting.conflict != "decide again":
            if self.setting.conflict == "twin is mine":
                return state, True
            # What was decided on the old state is stored over the new one.
            loaded = self.stream.later(doing.history[1], min(doing.elapsed, 3))
            committed = self.stream.commit(loaded, [moved], repr(moved))
        if committed.wrong:
            raise Violation(f"claim {slot}", committed.wrong)
        return state._replace(stream=committed.state), not committed.rejected

    def _responses(self, state: State, slot: int, dispatcher: Dispatcher, doing: Paused) -> Iterator[Step[State]]:
        learnt, flight = _leads_to(doing), dispatcher.flight
        if flight is not None and flight.taken:
            gone = _with_dispatcher(state, slot, Dispatcher(doing, None))
            yield self._learnt(gone, f"answer {slot} accepted", slot, learnt["accepted"], BOTH)
            yield self._learnt(gone, f"answer {slot} silent, done", slot, learnt["silent"], BOTH)
            return
        yield self._learnt(state, f"answer {slot} silent", slot, learnt["silent"], BOTH)
        if flight is not None:
            gone = _with_dispatcher(state, slot, Dispatcher(doing, None))
            if self.setting.throttles:
                yield self._learnt(gone, f"answer {slot} unavailable", slot, learnt["unavailable"], NEVER)
            if self.setting.refuses:
                yield self._learnt(gone, f"answer {slot} refused", slot, learnt["refused"], NEVER)

    def _seen(self, state: State, reference: Reference) -> Iterator[str]:
        work = state.works[reference.attempt - 1]
        if reference.handle is None and work.status:
            yield "cut short"
        hidden = work.age < self.setting.shows_after or (
            # Targets forget what ended long ago.
            self.setting.takes_token and work.age >= LONG and work.status not in {"running", "stopping"}
        )
        if not work.status or hidden:
            yield "missing"
        if work.status:
            yield "running" if work.status == "stopping" else work.status

    def _answered(self, state: State, label: str, slot: int, doing: Paused, answer: object) -> Iterator[Step[State]]:
        effect, stream, answers = doing.history
        after = self._run(slot, effect, stream, (*answers, (answer, doing.elapsed)))
        if after is None:
            yield Step(label, _with_dispatcher(state, slot, Dispatcher(None, state.dispatchers[slot].flight)), BOTH)
        else:
            yield self._paused(state, label, slot, after, BOTH)

    def _learnt(self, state: State, label: str, slot: int, after: Paused | None, ways: Ways) -> Step[State]:
        flight = state.dispatchers[slot].flight
        left = flight if flight is not None and not flight.taken else None
        return Step(label, _with_dispatcher(state, slot, Dispatcher(after, left)), ways)

    def _run(self, slot: int, effect: Effect, stream: int, answers: tuple[Any, ...]) -> Paused | None:
        """Where the real `Dispatch` gets to with these answers; None when it is done and has learnt nothing."""
        key = (slot, effect, stream, answers)
        if key in self._replayed:
            return self._replayed[key]
        doing: Paused | None
        try:
            learnt = self._replay(slot, effect, stream, answers)
        except _Ask as ask:
            elapsed = answers[-1][1] if answers else 0
            if ask.call in {"start", "stop"}:
                # Nothing is looked at any more but the answer, so all that is kept is what each answer leads to.
                outcomes = (
                    ("accepted", "silent", "unavailable", "refused") if ask.call == "start" else ("done", "unavailable")
                )
                leads_to = tuple((one, self._run(slot, effect, stream, (*answers, (one, elapsed)))) for one in outcomes)
                doing = Paused(ask.call, self._thing(ask.what), 0, leads_to)
            else:
                doing = Paused(ask.call, self._thing(ask.what), elapsed, (effect, stream, answers))
        else:
            elapsed = answers[-1][1] if answers else 0
            commands = [_moved(command, elapsed) for _, command in learnt]
            timed = ("timed",) if any(getattr(command, "looked_at", None) for command in commands) else ()
            doing = Paused("commit", self._thing(commands), 0, timed) if learnt else None
        self._replayed[key] = doing
        return doing

    def _replay(self, slot: int, effect: Effect, stream: int, answers: tuple[Any, ...]) -> list[Any]:
        scripted = iter(answers)
        clock = [NOON]
        model = self
        loaded = SimpleNamespace(state=self.stream.run(stream))

        def ask(call: str, what: Any) -> Any:
            try:
                answer, elapsed = next(scripted)
            except StopIteration:
                raise _Ask(call, what) from None
            clock[0] = moment(elapsed)
            return answer

        class Transact:
            def kept(self, name: str) -> Any:
                return loaded

            def __call__(self, name: str, command: RecordClaim | AskAgain, **more: object) -> None:
                # What is asked for is the same whenever it is; without it there are fewer states.
                if not ask("claim", replace(command, request={}) if isinstance(command, RecordClaim) else command):
                    raise Rejected("somebody else was faster")

        class Target:
            takes_token = model.setting.takes_token
            token_seconds = model.setting.window * TICK.total_seconds() if model.setting.takes_token else None
            runs_at_once = False

            def start(self, request: Any) -> Handle:
                match ask("start", request.attempt):
                    case "accepted":
                        return Handle(f"h{request.attempt}")
                    case "silent":
                        raise TargetSilent("no answer")
                    case "unavailable":
                        raise TargetUnavailable("throttled")
                raise TargetRefused("never")

            def observe(self, references: Sequence[Reference]) -> list[Report]:
                (reference,) = references
                seen = ask("observe", _plain(reference))
                if seen == "cut short":
                    return [model._report(reference.attempt, "unknown", handle=False, cut_short=True)]
                there = seen != "missing" or reference.handle is not None
                return [model._report(reference.attempt, seen, handle=there)]

            def stop(self, reference: Reference, *, grace_seconds: float) -> None:
                if ask("stop", _plain(reference)) == "unavailable":
                    raise TargetUnavailable("throttled")

        dispatch = self._dispatch(f"d{slot}", Transact(), Target(), lambda: clock[0])
        match effect:
            case StartAttempt():
                return dispatch.start(effect)
            case StopAttempt():
                return dispatch.stop(effect)
            case ObserveAttempt():
                return dispatch.observe([effect])
        raise AssertionError(effect)

    def _dispatch(
        self, claimer: str, transact: Any = None, target: Any = None, now: Callable[[], datetime] = lambda: NOON
    ) -> Dispatch:
        return Dispatch(transact, {"ecs": target, "ssm": target}, now=now, claimer=claimer)

    def _thing(self, thing: Any) -> int:
        known = self._numbers.get(repr(thing))
        if known is None:
            known = self._numbers[repr(thing)] = len(self._things)
            self._things.append(thing)
        return known


def _plain(reference: Reference) -> Reference:
    """Without what only real targets need to search."""
    return Reference(reference.token, reference.run, reference.job, reference.attempt, reference.handle)


def _with_dispatcher(state: State, slot: int, dispatcher: Dispatcher) -> State:
    dispatchers = list(state.dispatchers)
    dispatchers[slot] = dispatcher
    return state._replace(dispatchers=tuple(dispatchers))


def _counts(doing: Paused) -> bool:
    """Whether it matters how long this takes."""
    if doing.call in _TELLS_TIME:
        return True
    return "timed" in (doing.history if doing.call == "commit" else _timed_ends(doing))


def _timed_ends(doing: Paused) -> tuple[str, ...]:
    return tuple(word for _, after in doing.history if after is not None for word in after.history)


def _leads_to(doing: Paused) -> dict[str, Paused | None]:
    """For each answer what comes then. What was seen before the question is as much older as the answer took."""
    return {
        answer: after._replace(elapsed=doing.elapsed) if after is not None and after.history else after
        for answer, after in doing.history
    }


def _moved(command: RunCommand, ticks: int) -> RunCommand:
    """The same command said that much later: its moments are further back."""
    looked_at = getattr(command, "looked_at", None)
    moved = {} if looked_at is None else {"looked_at": looked_at - ticks * TICK}
    if isinstance(command, RecordClaim):
        moved["send_before"] = command.send_before - ticks * TICK
    return replace(command, **moved) if moved else command


def _ticks(at: datetime) -> int:
    return round((at - NOON) / TICK)
