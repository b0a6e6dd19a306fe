"""Why a job is not running, or how it is doing, or how it ended."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from shared.decide.approvals import approvers
from shared.decide.deadlines import deadlines
from shared.decide.retrying import budget_of
from shared.errors import NotFound
from shared.explain.conditions import (
    Code,
    Condition,
    by_whom,
    count_of,
    first_of,
    names_of,
    time_of,
    with_reason,
)
from shared.explain.pool import NO_POOLS, Pool, waits_in_line, waits_to_ask
from shared.explain.waits import Upstream, nothing_known, waits_outside
from shared.ids import JobName, PoolName, item_name, item_of
from shared.state.pool import NoPool
from shared.state.run import (
    BAD_OUTCOMES,
    Asking,
    Backoff,
    Claimed,
    Done,
    Doubted,
    FannedOut,
    JobState,
    Open,
    Queued,
    Ready,
    Run,
    Stop,
    Submitted,
    Waiting,
    Wanting,
)
from shared.state.workflow import WorkflowState
from shared.workflow.document import ApprovalJob

WAITS_MAX = 20
"""Jobs waited for that get a condition of their own; the others are named together."""
ROOTS_MAX = 5
"""Root causes shown for one of them."""
EDGES_MAX = 100_000
"""Edges of the graph followed for one explanation, so that a dense one does not take for ever."""


def why_job(
    run: Run,
    job: JobName,
    now: datetime,
    *,
    workflow: WorkflowState | None = None,
    pools: Mapping[PoolName, Pool] = NO_POOLS,
    upstream: Upstream = nothing_known,
    names_others: bool = True,
) -> list[Condition]:
    """Every condition that keeps `job` from running (or, for one that runs or has ended, how it is).

    `pools` are those of `pools_of`; `names_others`: whether runs of other workflows may be named. With the workflow's state a pause is mentioned too, though it never holds back a run that exists. Raises `NotFound`.
    """
    if run.find(job) is None:
        raise NotFound(f"the run has no job {job}; it has {names_of(tuple(run.plan.jobs))}")
    found = Look(run, now, pools, upstream, names_others=names_others).job(job)
    if workflow is not None and workflow.pause is not None and not isinstance(run.job(job).phase, Done):
        pause = workflow.pause
        found.append(
            Condition(
                "workflow_paused",
                job,
                f"{workflow.name} was paused{by_whom(pause.by)} at {time_of(pause.at)}{with_reason(pause.reason)}. "
                "That starts no further scheduled runs; this run goes on.",
                since=pause.at,
                clears=f"runfold resume {workflow.name}",
            )
        )
    return found


class Look:
    """One look at a run at one moment; what several conditions need is found out once."""

    def __init__(
        self, run: Run, now: datetime, pools: Mapping[PoolName, Pool], upstream: Upstream, *, names_others: bool
    ) -> None:
        self._upstream = upstream
        self.run = run
        self._names_others = names_others
        self.now = now
        self._pools = pools
        self._edges_left = EDGES_MAX
        self._ready: list[int] | None = None
        self._holders: list[JobName] | None = None

    def job(self, name: JobName, *, deep: bool = True) -> list[Condition]:
        """The conditions of one job; without `deep`, those in the way are named but not explained themselves."""
        state = self.run.job(name)
        phase = state.phase
        match phase:
            case Done():
                return [self._done(name, state, phase, deep)]
            case Waiting() | Wanting() | Ready() | Backoff() | Asking() if self.run.cancel is not None:
                return [self.cancelling(name)]
            case Waiting():
                return self._waiting(name, phase, deep)
            case Wanting():
                pool = self._pools.get(phase.pool, NoPool())
                bound = self._bound(name)
                return [waits_in_line(self.run, name, phase, pool, self.now, bound, names_others=self._names_others)]
            case Ready(pool=None) if (pool_of_job := self.run.plan.jobs[name].pool) is not None:
                return [waits_to_ask(self.run, name, phase, PoolName(pool_of_job.name), self._bound(name))]
            case Ready():
                of = item_of(name)
                return (self._item_waits(name, of[0], phase) if of else []) or [self._ready_for_place(name, phase)]
            case Backoff():
                return self._backoff(name, state, phase)
            case Asking():
                return [self._asking(name, phase)]
            case FannedOut():
                return self._items(name, deep)
            case Queued() | Claimed() | Submitted() | Doubted():
                stop = [self._stopping(name, phase, phase.stop)] if phase.stop is not None else []
                return [*stop, self._under_way(name, phase)]

    # Items.

    def _items(self, name: JobName, deep: bool) -> list[Condition]:
        """How a job with `for_each` is doing: counts, the items that ended badly, and what those under way wait for."""
        fan = self.run.fans[name]
        waiting, resting = fan.todo.bit_count(), fan.resting.bit_count()
        told = [f"{number:,} {outcome.replace('_', ' ')}" for outcome, number in sorted(fan.outcomes.items())]
        told += [
            f"{number:,} {what}"
            for number, what in ((fan.active, "under way"), (resting, "in backoff"), (waiting, "not begun"))
            if number
        ]
        text = f"{name} is done for {count_of(fan.count, 'item')}: {', '.join(told) or 'none left'}."
        bad = bad_items(self.run, name)
        if bad:
            text += f" {names_of(bad)} ended badly; at most {fan.tolerated:,} may."
        if fan.cancel is not None:
            text += f" {fan.cancel.by} cancelled it at {time_of(fan.cancel.at)}{with_reason(fan.cancel.reason)}."
        elif waiting and fan.max_parallel is not None and fan.active >= fan.max_parallel:
            text += f" Not more than {count_of(fan.max_parallel, 'item')} may be under way at once (max_parallel)."
        under_way = [one for one in self.run.live if (of := item_of(one)) is not None and of[0] == name]
        under_way.sort(key=self.run.plan.order)
        return [
            Condition(
                "items",
                name,
                text,
                since=fan.since,
                clears="when every item has ended",
                holders=first_of(under_way),
                chain=tuple(one for item in under_way[:ROOTS_MAX] for one in self.job(item, deep=False))
                if deep
                else (),
            )
        ]

    def _item_waits(self, name: JobName, parent: JobName, phase: Ready) -> list[Condition]:
        fan = self.run.fans[parent]
        if fan.max_parallel is None or fan.active < fan.max_parallel:
            return []
        return [
            Condition(
                "max_parallel",
                name,
                f"{name} waits for others of {parent}: {count_of(fan.max_parallel, 'item')} may be under way at once (max_parallel).",
                since=phase.since,
                clears=f"when one of the items of {parent} ends",
            )
        ]

    # Before an attempt.

    def _waiting(self, name: JobName, phase: Waiting, deep: bool) -> list[Condition]:
        found: list[Condition] = []
        if not self.run.opened:
            found.append(self.before_its_time(name))
        if phase.remaining == 0:
            if outside := waits_outside(self.run, name, self._upstream):
                found.extend(outside)
            elif self.run.opened:
                found.append(
                    Condition(
                        "undecided",
                        name,
                        f"Nothing keeps {name} any more; it is dealt with at the next look at the run.",
                        since=self.run.at,
                        clears="at the next look at the run, within a minute",
                    )
                )
            return found
        found.extend(waits_outside(self.run, name, self._upstream))
        document = self.run.plan.jobs[name]
        befores = [JobName(before) for before in dict.fromkeys(document.after)]
        if document.when == "all_succeeded" and phase.failed:
            bad = [before for before in befores if self._outcome(before) in BAD_OUTCOMES]
            found.append(
                Condition(
                    "upstream_failed",
                    name,
                    f"{name} will not run in this round: it needs all jobs before it to succeed, and "
                    f"{self._ends_of(bad)}. It is settled when the others before it have ended.",
                    since=min((at for before in bad if (at := self._ended_at(before)) is not None), default=None),
                    clears=self._rerun(),
                    holders=first_of(bad),
                    chain=self._bad_roots(bad) if deep else (),
                )
            )
        open_ones = [before for before in befores if not isinstance(self.run.jobs[before].phase, Done)]
        how = "succeeds" if document.when == "all_succeeded" else "ends"
        for before in open_ones[:WAITS_MAX]:
            found.append(self._waits_for(name, phase, before, how, deep))
        rest = open_ones[WAITS_MAX:]
        if rest:
            found.append(
                Condition(
                    "waits_for_job",
                    name,
                    f"{name} also waits for {count_of(len(rest), 'more job')}: {names_of(rest)}.",
                    since=phase.since,
                    clears=f"when each of them {how}",
                    holders=first_of(rest),
                )
            )
        return found

    def _waits_for(self, name: JobName, phase: Waiting, before: JobName, how: str, deep: bool) -> Condition:
        state = self.run.jobs[before]
        roots = self._roots(before) if deep else []
        chain = tuple(one for root in roots for one in self.job(root, deep=False))
        text = f"{name} waits for {before}, which is {_status(state)}"
        if isinstance(state.phase, Waiting) and roots and roots != [before]:
            text += " itself, in the end for " + names_of([f"{one} ({_status(self.run.jobs[one])})" for one in roots])
        return Condition(
            "waits_for_job",
            name,
            f"{text}.",
            since=phase.since,
            clears=f"when {before} {how}",
            holders=(before,),
            chain=chain,
        )

    def _ready_for_place(self, name: JobName, phase: Ready) -> Condition:
        limit = self.run.plan.workflow.parallelism
        last = self._bound(name)
        if self.run.active < limit:
            return Condition(
                "about_to_start",
                name,
                f"{name} is ready and there is a place for it; it takes it at the next look at the run.{last}",
                since=phase.since,
                clears="at the next look at the run, within a minute",
            )
        return self.no_place(name, phase.since, self._ahead_of(name), last)

    def no_place(
        self, name: str, since: datetime, ahead: int, last: str = "", *, subject: str = "", verb: str = "waits"
    ) -> Condition:
        """All places are taken: by whom, and who comes first when one is free. `name` may be several, for `subject`."""
        limit = self.run.plan.workflow.parallelism
        holders = self.holders()
        text = (
            f"{name} {verb} for a place: {count_of(limit, 'attempt')} of a run may be under way at once "
            f"(parallelism), held by {names_of(holders)}."
        )
        clears = f"when {names_of(holders, 'or')} ends" if len(holders) <= 3 else "when one of the attempts ends"
        if ahead:
            first = [self.run.plan.by_rank[rank] for rank in self._ready_ranks()[:ahead]]
            text += f" {count_of(ahead, 'ready job')} come{'s' if ahead == 1 else ''} first: {names_of(first)}."
            clears += f", and {'the one' if ahead == 1 else f'the {ahead}'} ahead of it had a place"
        return Condition(
            "parallelism", subject or name, text + last, since=since, clears=clears, holders=first_of(holders)
        )

    def _backoff(self, name: JobName, state: JobState, phase: Backoff) -> list[Condition]:
        budget = budget_of(self.run.plan.jobs[name].retry, phase.failure)[0]
        used = sum(1 for one in state.attempts if one.round == self.run.round and one.failure == phase.failure)
        when = time_of(phase.retry_at)
        number = len(state.attempts)
        text = (
            f"Attempt {number} of {name} failed at {time_of(phase.since)} ({phase.failure}{with_reason(phase.reason)}). "
            f"It is tried again at {when}: {used} of {count_of(budget, 'try') if budget == 1 else f'{budget} tries'} "
            f"for failures of class {phase.failure} are used."
        )
        if phase.retry_at <= self.now:
            text += " That moment has come; it goes on at the next look at the run."
        found = [
            Condition(
                "backoff",
                name,
                text + self._bound(name),
                since=phase.since,
                clears=f"at {when} (try {used + 1} of {budget})",
                clears_at=phase.retry_at,
            )
        ]
        if self.run.active >= self.run.plan.workflow.parallelism:
            found.append(self.no_place(name, phase.since, self._ahead_of(name)))
        return found

    def _asking(self, name: JobName, phase: Asking) -> Condition:
        job = self.run.plan.jobs[name]
        assert isinstance(job, ApprovalJob)
        text = f"{name} waits for the decision of {approvers(job)} since {time_of(phase.since)}"
        text += f": {phase.message.rstrip('.')}." if phase.message else "."
        clears = f"runfold approve {self.run.run} {name}, or runfold reject {self.run.run} {name} --reason WHY"
        if phase.expires_at is not None:
            text += f" After {time_of(phase.expires_at)} {_ON_TIMEOUT[job.on_timeout]}."
            clears += f"; at the latest at {time_of(phase.expires_at)}"
        return Condition("approval", name, text, since=phase.since, clears=clears, clears_at=phase.expires_at)

    # An attempt under way.

    def _under_way(self, name: JobName, phase: Open) -> Condition:
        number = phase.attempt
        last = self._bound(name)
        match phase:
            case Queued(not_before=None):
                return Condition(
                    "queued",
                    name,
                    f"Attempt {number} of {name} was decided at {time_of(phase.queued_at)} and is on its way to the target.{last}",
                    since=phase.queued_at,
                    clears="when the target accepts it",
                )
            case Queued(not_before=not_before):
                assert not_before is not None
                return Condition(
                    "queued",
                    name,
                    f"The target did not take attempt {number} of {name}{with_reason(phase.reason)}. It is asked again "
                    f"at {time_of(not_before)}.{last}",
                    since=phase.queued_at,
                    clears=f"at {time_of(not_before)}, if the target accepts it then",
                    clears_at=not_before,
                )
            case Claimed():
                return Condition(
                    "claimed",
                    name,
                    f"{phase.claimer} may be asking the target for attempt {number} of {name}, alone until "
                    f"{time_of(phase.send_before)}; after that the target is asked whether it has it.{last}",
                    since=phase.claimed_at,
                    clears="when the target accepts it, or it is looked for",
                    clears_at=phase.send_before,
                )
            case Submitted() if self.run.plan.jobs[name].type == "workflow":
                code: Code = "submitted" if phase.started_at is None else "running"
                began = "" if phase.started_at is None else f", which began at {time_of(phase.started_at)}"
                return Condition(
                    code,
                    name,
                    f"Attempt {number} of {name} is the run {phase.handle}{began}.{last}",
                    since=phase.started_at or phase.submitted_at,
                    clears=f"when {phase.handle} ends",
                    holders=(phase.handle,),
                )
            case Submitted(started_at=None):
                return Condition(
                    "submitted",
                    name,
                    f"The target accepted attempt {number} of {name} at {time_of(phase.submitted_at)} as {phase.handle} and "
                    f"has not said that it runs.{last}",
                    since=phase.submitted_at,
                    clears="when the target says that it runs, or how it ended",
                )
            case Submitted(started_at=started_at):
                assert started_at is not None
                return Condition(
                    "running",
                    name,
                    f"Attempt {number} of {name} has been running since {time_of(started_at)} as {phase.handle}.{last}",
                    since=started_at,
                    clears="when the target says how it ended",
                )
            case Doubted():
                return self._doubt(name, phase)

    def _doubt(self, name: JobName, phase: Doubted) -> Condition:
        if phase.handle is not None:
            evidence = f"what the target says of {phase.handle}"
        else:
            evidence = "the target finding work under the attempt's token, or finding none twice"
        command = f"runfold mark {self.run.run} {name} succeeded --reason WHY (or failed, or skipped)"
        if phase.resolve_at is not None:
            at = time_of(phase.resolve_at)
            policy = f"{phase.policy}: at {at} it counts as lost"
            clears = f"at {at}, unless there is evidence before: {evidence}"
        elif phase.policy == "ask":
            policy, clears = "ask: a person decides", f"{command}; or {evidence}"
        else:
            policy, clears = f"{phase.policy}: it is looked for until there is evidence", f"{evidence}; or {command}"
        return Condition(
            "doubt",
            name,
            f"Attempt {phase.attempt} of {name} was asked for and nobody can tell whether it was done"
            f"{with_reason(phase.reason)}. In doubt since {time_of(phase.since)}; the policy is {policy}. "
            f"Awaited: {evidence}.",
            since=phase.since,
            clears=clears,
            clears_at=phase.resolve_at,
        )

    def _stopping(self, name: JobName, phase: Open, stop: Stop) -> Condition:
        heard = (
            f"the target accepted that at {time_of(stop.sent_at)}"
            if stop.sent_at is not None
            else "the target has not accepted that yet"
        )
        flag = (
            f"It was flagged for a person at {time_of(stop.flagged_at)}"
            if stop.flagged_at is not None
            else f"Unconfirmed, it is flagged for a person at {time_of(stop.flag_at)}"
        )
        return Condition(
            "stop_unconfirmed",
            name,
            f"Attempt {phase.attempt} of {name} was asked to stop at {time_of(stop.requested_at)} "
            f"({stop.cause}{with_reason(stop.reason)}); {heard}, and nobody confirmed that the work ended. {flag}.",
            since=stop.requested_at,
            clears="when the target says that it has ended",
        )

    # Ended.

    def _done(self, name: JobName, state: JobState, phase: Done, deep: bool) -> Condition:
        at = time_of(phase.at)
        again = "" if phase.outcome in {"succeeded", "skipped"} else self._rerun()
        if phase.marked_by:
            text = f"{name} was marked {phase.outcome} by {phase.marked_by} at {at}{with_reason(phase.reason)}."
            return Condition("marked", name, text, since=phase.at, clears=again)
        tries = sum(1 for one in state.attempts if one.round == self.run.round)
        match phase.outcome:
            case "succeeded":
                text = f"{name} succeeded at {at}" + (f", at attempt {len(state.attempts)}." if tries > 1 else ".")
                return Condition("succeeded", name, text, since=phase.at)
            case "failed" | "timed_out":
                code: Code = "failed" if phase.outcome == "failed" else "timed_out"
                ended = "failed" if code == "failed" else "timed out"
                last = state.attempts[-1] if tries else None
                exit_code = last.exit_code if last is not None else None
                exited = f", exit code {exit_code}" if exit_code is not None else ""
                kind = f" ({last.failure}{exited})" if last is not None and last.failure is not None else ""
                after = f" after {tries} attempts" if tries > 1 else ""
                text = f"{name} {ended} at {at}{after}{kind}{with_reason(phase.reason)}."
                bad_ones = [JobName(one) for one in bad_items(self.run, name)] if name in self.run.fans else []
                if bad_ones:
                    text += f" {names_of(bad_ones)} ended badly."
                chain = (
                    tuple(one for item in bad_ones[:ROOTS_MAX] for one in self.job(item, deep=False)) if deep else ()
                )
                return Condition(
                    code, name, text, since=phase.at, clears=again, holders=first_of(bad_ones), chain=chain
                )
            case "cancelled":
                text = f"{name} was cancelled at {at}{with_reason(phase.reason)}."
                return Condition("cancelled", name, text, since=phase.at, clears=again)
            case "skipped":
                text = f"{name} was skipped at {at}{with_reason(phase.reason)}."
                return Condition("skipped_by_rule", name, text, since=phase.at)
            case "upstream_failed":
                bad = self._bad_before(name)
                return Condition(
                    "upstream_failed",
                    name,
                    f"{name} did not run: {self._ends_of(bad) or phase.reason or 'a job before it did not succeed'}. "
                    f"It was settled at {at}.",
                    since=phase.at,
                    clears=again,
                    holders=first_of(bad),
                    chain=self._bad_roots(bad) if deep else (),
                )

    # Of the run as a whole.

    def cancelling(self, name: str) -> Condition:
        cancel = self.run.cancel
        assert cancel is not None
        return Condition(
            "cancelling",
            name,
            f"The run was cancelled{by_whom(cancel.by)} at {time_of(cancel.at)}{with_reason(cancel.reason)}; what has not "
            "begun is settled, what is under way is stopped.",
            since=cancel.at,
            clears="when every attempt under way has ended",
        )

    def before_its_time(self, name: str) -> Condition:
        at = self.run.request.start_after
        if at is None or at <= self.now:
            return Condition(
                "before_its_time",
                name,
                "The moment before which nothing may start has come; the run opens at the next look at it.",
                since=self.run.requested_at,
                clears="at the next look at the run, within a minute",
                clears_at=at,
            )
        return Condition(
            "before_its_time",
            name,
            f"Nothing of this run starts before {time_of(at)}, {self._spread()}.",
            since=self.run.requested_at,
            clears=f"at {time_of(at)}",
            clears_at=at,
        )

    def _spread(self) -> str:
        rule = self.run.plan.workflow.schedule
        if self.run.request.trigger != "schedule" or rule is None:
            return "as it was asked for"
        spread = [
            f"{name} is {value}"
            for name, value in (
                ("jitter_seconds", rule.jitter_seconds),
                ("starts_per_minute", rule.starts_per_minute),
            )
            if value is not None
        ]
        return f"as its schedule spreads beginnings ({', '.join(spread)})" if spread else "as it was asked for"

    def holders(self) -> list[JobName]:
        """The jobs that hold a place, in the order in which they would take one."""
        if self._holders is None:
            live = [name for name in self.run.live if self.run.job(name).is_open]
            self._holders = sorted(live, key=self.run.plan.order)
        return self._holders

    # What several need.

    def _ready_ranks(self) -> list[int]:
        if self._ready is None:
            rank = self.run.plan.rank
            self._ready = sorted(rank[name] for name in self.run.plan.jobs if has_place_to_take(self.run, name))
        return self._ready

    def _ahead_of(self, name: JobName) -> int:
        """How many ready jobs take a place before this one."""
        return bisect_left(self._ready_ranks(), self.run.plan.rank[name])

    def _bound(self, name: JobName) -> str:
        """What time will do to the job if nothing else happens, as a sentence to append."""
        state = self.run.job(name)
        phase = state.phase
        if isinstance(phase, Queued | Claimed | Submitted | Doubted) and phase.stop is not None:
            return ""
        bounds = [
            one for one in deadlines(state, self.run.plan.jobs[name], self.run.round) if one.what.endswith("timeout")
        ]
        if not bounds:
            return ""
        first = min(bounds)
        return f" Its {first.what.replace('_', ' ')} is at {time_of(first.at)}."

    def _outcome(self, name: JobName) -> str:
        phase = self.run.job(name).phase
        return phase.outcome if isinstance(phase, Done) else ""

    def _ended_at(self, name: JobName) -> datetime | None:
        phase = self.run.job(name).phase
        return phase.at if isinstance(phase, Done) else None

    def _ends_of(self, names: list[JobName]) -> str:
        return names_of([f"{name} {_ended(self._outcome(name))}" for name in names])

    def _rerun(self) -> str:
        command = f"runfold rerun {self.run.run} --from-failed"
        return command if self.run.finished else f"{command}, once the run has finished"

    def _bad_before(self, name: JobName) -> list[JobName]:
        befores = (JobName(before) for before in dict.fromkeys(self.run.plan.jobs[name].after))
        return [before for before in befores if self._outcome(before) in BAD_OUTCOMES]

    def _bad_roots(self, starts: list[JobName]) -> tuple[Condition, ...]:
        """Those that failed themselves, found through any number of jobs that did not run because of them."""

        def further(name: JobName) -> list[JobName]:
            return self._bad_before(name) if self._outcome(name) == "upstream_failed" else []

        roots = self._follow(starts, further)
        return tuple(one for root in roots for one in self.job(root, deep=False))

    def _roots(self, start: JobName) -> list[JobName]:
        """The jobs that `start` waits for in the end: unfinished, and not themselves waiting for another job."""

        def further(name: JobName) -> list[JobName]:
            phase = self.run.job(name).phase
            if not isinstance(phase, Waiting) or phase.remaining == 0:
                return []
            befores = (JobName(before) for before in self.run.plan.jobs[name].after)
            return [before for before in befores if not isinstance(self.run.jobs[before].phase, Done)]

        return self._follow([start], further)

    def _follow(self, starts: Iterable[JobName], further: Callable[[JobName], list[JobName]]) -> list[JobName]:
        seen = set(starts)
        queue = list(starts)
        roots: list[JobName] = []
        for name in queue:
            if len(roots) == ROOTS_MAX or self._edges_left <= 0:
                break
            self._edges_left -= len(self.run.plan.jobs[name].after) + 1
            more = further(name)
            if not more:
                roots.append(name)
            for before in more:
                if before not in seen:
                    seen.add(before)
                    # The list grows while it is walked: breadth first, so that the nearest causes are shown.
                    queue.append(before)
        return roots


_ON_TIMEOUT = {
    "fail": "it counts as failed",
    "approve": "it counts as approved",
    "skip": "it is skipped",
}
_ENDED = {
    "upstream_failed": "did not run",
    "timed_out": "timed out",
    "cancelled": "was cancelled",
    "skipped": "was skipped",
}


def has_place_to_take(run: Run, name: JobName) -> bool:
    """Whether only the run's own places keep the job."""
    phase = run.jobs[name].phase
    return isinstance(phase, Ready) and (phase.pool is not None or run.plan.jobs[name].pool is None)


def bad_items(run: Run, name: JobName) -> list[str]:
    """The items of a job that ended badly, in order; those that never began are not named."""
    fan = run.fans[name]
    if not fan.bad:
        return []
    found = (item_name(name, index) for index in range(fan.count))
    return [
        one
        for one in found
        if (state := run.items.get(one)) is not None
        and isinstance(state.phase, Done)
        and state.phase.outcome in BAD_OUTCOMES
    ]


def _ended(outcome: str) -> str:
    return _ENDED.get(outcome, outcome)


def _status(state: JobState) -> str:
    match state.phase:
        case Waiting():
            return "waiting"
        case Wanting(pool=pool):
            return f"ready and waiting for a place in the pool {pool}"
        case Ready():
            return "ready and waiting for a place"
        case Queued(attempt=attempt):
            return f"about to start (attempt {attempt})"
        case Claimed(attempt=attempt):
            return f"being started (attempt {attempt})"
        case Submitted(attempt=attempt, started_at=None):
            return f"accepted by its target (attempt {attempt})"
        case Submitted(attempt=attempt):
            return f"running (attempt {attempt})"
        case Doubted(attempt=attempt):
            return f"in doubt (attempt {attempt})"
        case Backoff(retry_at=retry_at):
            return f"in backoff until {time_of(retry_at)}"
        case Asking():
            return "waiting for a person's decision"
        case FannedOut():
            return "under way"
        case Done(outcome=outcome):
            return outcome
