"""Why a run is not running: one that exists, or one that does not exist (yet)."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from shared import schedule
from shared.decide.instants import MISFIRE_GRACE, bound_of, turn_spacing
from shared.decide.workflow import limit_of
from shared.events import (
    Event,
    HeldRunDropped,
    InstantsExcluded,
    InstantSkipped,
    InstantsMissed,
    TriggerMissed,
    TriggerRefused,
)
from shared.explain.backfill import part_of_backfill
from shared.explain.clock import against_the_clock
from shared.explain.conditions import Condition, by_whom, count_of, first_of, names_of, time_of, with_reason
from shared.explain.job import ROOTS_MAX, Look, has_place_to_take
from shared.explain.pool import NO_POOLS, Pool
from shared.explain.waits import Upstream, nothing_known, waits_outside
from shared.ids import JobName, PoolName, RunId, scheduled_instant, workflow_of
from shared.state.run import BAD_OUTCOMES, Done, NotRequested, Ready, Run, Waiting
from shared.state.waits import WHOLE_RUN, is_open
from shared.state.workflow import NotRegistered, Pause, WorkflowState
from shared.workflow.days import Exclusion
from shared.workflow.document import Workflow
from shared.workflow.plan import Plan
from shared.workflow.timing import Schedule

CONDITIONS_MAX = 50
"""Conditions listed for a run; the most pressing come first."""
_SECOND = timedelta(seconds=1)
_PRESSING = (
    "doubt",
    "stop_unconfirmed",
    "approval",
    "backoff",
    "claimed",
    "queued",
    "undecided",
    "submitted",
    "running",
    "items",
    "parallelism",
    "pool",
)


def why_run(
    run: Run | NotRequested,
    run_id: RunId,
    now: datetime,
    *,
    workflow: WorkflowState | NotRegistered | None,
    plan: Plan | None,
    history: Iterable[tuple[datetime, Event]] = (),
    pools: Mapping[PoolName, Pool] = NO_POOLS,
    exclusion: Exclusion | None = None,
    upstream: Upstream = nothing_known,
    names_others: bool = True,
) -> list[Condition]:
    """Every condition that keeps the run from running, or how it is doing.

    `plan` is the workflow's live document. `history`, the workflow's events with the times of their commits, tells of an
    instant that passed why it did not become a run; without it that is said as far as the state knows.
    `pools` are those of `pools_of`. `exclusion`: the days that the schedule excludes by the calendars of now. `names_others`: whether
    runs of other workflows may be named.
    """
    if isinstance(run, Run):
        look = Look(run, now, pools, upstream, names_others=names_others)
        return [*_existing(run, look, upstream), *part_of_backfill(run)]
    name = workflow_of(run_id)
    if not isinstance(workflow, WorkflowState):
        text = f"There is no workflow {name}."
        return [Condition("not_registered", run_id, text, clears=f"registering a document named {name}")]
    for held in workflow.held:
        if held.run == run_id:
            return [_held(workflow, run_id, plan, now)]
    holder = workflow.holders.get(run_id)
    if holder is not None:
        text = f"{run_id} was let in at {time_of(holder.admitted_at)} and is about to begin."
        return [
            Condition("admitted", run_id, text, holder.admitted_at, "when its first event is stored, within minutes")
        ]
    instant = scheduled_instant(run_id)
    told = _told(run_id, instant, history)
    if told is not None:
        return [told]
    if instant is None:
        text = f"There is no run {run_id}: nobody has asked for it, or it was pruned."
        return [Condition("not_requested", run_id, text, clears=f"runfold run {name}")]
    return _scheduled(workflow, run_id, instant, now, plan, exclusion)


# --- a run that exists ------------------------------------------------------------------------------------------------


def _existing(run: Run, look: Look, upstream: Upstream) -> list[Condition]:
    if run.outcome is not None:
        return [_finished(run, look)]
    found: list[Condition] = []
    if run.cancel is not None:
        found.append(look.cancelling(run.run))
    elif not run.opened:
        found.append(look.before_its_time(run.run))
        return found + against_the_clock(run)
    elif is_open(run.gates.get(WHOLE_RUN, ())):
        # Nothing of it may begin, so nothing else need be said of its jobs.
        return waits_outside(run, run.run, upstream) + against_the_clock(run)
    jobs: list[Condition] = []
    ready: list[JobName] = []
    waiting = 0
    for name in run.plan.by_rank:
        phase = run.jobs[name].phase
        if isinstance(phase, Done):
            continue
        if isinstance(phase, Waiting) and phase.remaining:
            waiting += 1
        elif has_place_to_take(run, name):
            ready.append(name)
        elif run.cancel is None or run.jobs[name].is_open:
            # A stop is why the attempt is still there; how the attempt is doing is said for the job itself.
            jobs.append(look.job(name, deep=False)[0])
    if ready and run.cancel is None:
        if run.active >= run.plan.workflow.parallelism:
            since = min(phase.since for name in ready if isinstance(phase := run.jobs[name].phase, Ready))
            verb = "waits" if len(ready) == 1 else "wait"
            jobs.append(look.no_place(names_of(ready), since, 0, subject=run.run, verb=verb))
        else:
            jobs.extend(look.job(name)[0] for name in ready[:CONDITIONS_MAX])
    jobs.sort(key=lambda one: _PRESSING.index(one.code) if one.code in _PRESSING else len(_PRESSING))
    found.extend(jobs[:CONDITIONS_MAX])
    if waiting:
        roots = [one.subject for one in jobs if one.subject != run.run]
        others = [
            name for name in run.plan.jobs if isinstance(phase := run.jobs[name].phase, Waiting) and phase.remaining
        ]
        found.append(
            Condition(
                "waits_for_job",
                run.run,
                f"{count_of(waiting, 'job')} wait{'s' if waiting == 1 else ''} for jobs before "
                f"{'it' if waiting == 1 else 'them'}: {names_of(others)}.",
                since=run.requested_at,
                clears="when the jobs before them end",
                holders=first_of(roots),
            )
        )
    return found + against_the_clock(run)


def _finished(run: Run, look: Look) -> Condition:
    assert run.finished_at is not None
    outcome = run.outcome
    bad = [
        name
        for name in run.plan.jobs
        if isinstance(phase := run.jobs[name].phase, Done)
        and phase.outcome in BAD_OUTCOMES
        and phase.outcome != "upstream_failed"
    ]
    text = f"The run {'was cancelled' if outcome == 'cancelled' else outcome} at {time_of(run.finished_at)}"
    if outcome == "failed" and bad:
        text += f", because of {names_of(bad)}"
    return Condition(
        "run_finished",
        run.run,
        text + ".",
        since=run.finished_at,
        clears="" if outcome == "succeeded" else f"runfold rerun {run.run} --from-failed",
        holders=first_of(bad) if outcome != "succeeded" else (),
        chain=tuple(look.job(name, deep=False)[0] for name in bad[:ROOTS_MAX]) if outcome != "succeeded" else (),
    )


# --- a run that does not exist ----------------------------------------------------------------------------------------


def _held(state: WorkflowState, run_id: RunId, plan: Plan | None, now: datetime) -> Condition:
    position = next(number for number, one in enumerate(state.held, start=1) if one.run == run_id)
    held = state.held[position - 1]
    if state.pause is not None and held.request.trigger == "event":
        text = (
            f"{run_id} has waited since {time_of(held.since)} for the end of the pause of {state.name}: "
            f"{held.request.trigger_event} came by the trigger {held.request.trigger_name}."
        )
        return Condition("paused", run_id, text, since=held.since, clears=f"runfold resume {state.name}")
    holders = sorted(state.holders, key=lambda run: (state.holders[run].admitted_at, run))
    limit = limit_of(plan.workflow) if plan is not None else None
    text = f"{run_id} has waited to be let in since {time_of(held.since)}"
    if limit is not None:
        text += f": {count_of(limit, 'run')} of {state.name} may be active at once"
    text += f", and {names_of(holders)} {'is' if len(holders) == 1 else 'are'}." if holders else "."
    rule = plan.workflow.schedule if plan is not None else None
    spacing = turn_spacing(rule) if rule is not None else None
    if rule is not None and spacing is not None and state.before_its_turn(held.request, now):
        return _waits_its_turn(state, run_id, position, rule, spacing)
    text += f" It is number {position} of {len(state.held)} in the queue."
    if position == 1:
        clears = f"when {names_of(holders, 'or')} ends" if 0 < len(holders) <= 3 else "when an active run ends"
    else:
        clears = f"when the {count_of(position - 1, 'run')} ahead of it {'was' if position == 2 else 'were'} let in and another ends"
    return Condition("held", run_id, text, since=held.since, clears=clears, holders=first_of(holders))


def _waits_its_turn(
    state: WorkflowState, run_id: RunId, position: int, rule: Schedule, spacing: timedelta
) -> Condition:
    held = state.held[position - 1]
    assert state.next_start_at is not None
    ahead = sum(1 for one in state.held[: position - 1] if one.request.trigger == "schedule")
    turn = state.next_start_at + ahead * spacing
    text = (
        f"{run_id} has waited for its turn since {time_of(held.since)}: scheduled runs of {state.name} begin "
        f"{rule.starts_per_minute} a minute (starts_per_minute), and {count_of(ahead, 'run')} stand before it."
    )
    return Condition("turn", run_id, text, held.since, f"at about {time_of(turn)}, if there is room then", turn)


def _told(run_id: RunId, instant: datetime | None, history: Iterable[tuple[datetime, Event]]) -> Condition | None:
    """What the workflow's own history says of a run that does not exist; the newest word counts."""
    found: Condition | None = None
    again = f"runfold run {workflow_of(run_id)}"
    for at, event in history:
        match event:
            case HeldRunDropped(run=run) if run == run_id:
                text = f"{run_id} was dropped from the queue{by_whom(event.by)} at {time_of(at)}{with_reason(event.reason)}."
                found = Condition("dropped", run_id, text, since=at, clears=f"runfold run {workflow_of(run_id)}")
            case TriggerRefused(run=run) if run == run_id:
                text = f"{event.event} came by the trigger {event.trigger} at {time_of(at)} and cannot be a run{with_reason('; '.join(event.problems))}."
                found = Condition(
                    "refused",
                    run_id,
                    text,
                    since=at,
                    clears="registering a document that takes it, and sending it again",
                )
            case TriggerMissed(run=run) if run == run_id:
                text = f"{event.event} came by the trigger {event.trigger} at {time_of(at)} and was missed{with_reason(event.reason)}."
                found = Condition("missed", run_id, text, since=at, clears=again)
            case InstantSkipped(scheduled_at=skipped) if skipped == instant:
                text = f"The instant {time_of(skipped)} was skipped at {time_of(at)}{with_reason(event.reason)}."
                found = Condition("skipped", run_id, text, since=at, clears=again)
            case InstantsExcluded(first_at=first, last_at=last) if instant is not None and first <= instant <= last:
                text = f"Nothing ran at {time_of(instant)}: {event.reason}."
                found = Condition("excluded", run_id, text, since=at, clears=again)
            case InstantsMissed(first_at=first, last_at=last) if instant is not None and first <= instant <= last:
                text = (
                    f"{count_of(event.count, 'instant')} from {time_of(first)} to {time_of(last)} "
                    f"{'was' if event.count == 1 else 'were'} missed, which was found at {time_of(at)}{with_reason(event.reason)}."
                )
                found = Condition("missed", run_id, text, since=at, clears=again)
            case _:
                pass
    return found


def _scheduled(
    state: WorkflowState,
    run_id: RunId,
    instant: datetime,
    now: datetime,
    plan: Plan | None,
    exclusion: Exclusion | None,
) -> list[Condition]:
    name = state.name
    shown = time_of(instant)
    if state.watermark is not None and instant <= state.watermark:
        return [_dealt_with(state, run_id, instant)]
    if state.live is None:
        text = f"{name} was unregistered at {time_of(state.changed_at)}; it starts no runs."
        return [Condition("not_registered", run_id, text, state.changed_at, f"registering a document named {name}")]
    document = plan.workflow if plan is not None else None
    if document is not None and not _is_scheduled(document, instant):
        return [_unknown_instant(document, run_id, instant, state)]
    excluded = exclusion.of(instant) if exclusion is not None else None
    if excluded is not None:
        text = f"Nothing runs at {shown}, as it stands now: {excluded.reason}."
        return [Condition("excluded", run_id, text, since=state.watermark, clears=f"runfold run {name}")]
    found: list[Condition] = []
    if instant > now:
        found.append(
            Condition(
                "before_its_time",
                run_id,
                f"{name} is scheduled for {shown}, which has not come.",
                since=state.watermark,
                clears=f"at {shown}",
                clears_at=instant,
            )
        )
    if state.pause is not None:
        found.append(_paused(state, run_id, state.pause, document, instant))
    if document is not None:
        found.extend(_full(state, run_id, document))
    if not found:
        text = f"{run_id} is due since {shown} and is started at the next look at {name}."
        found.append(
            Condition("due", run_id, text, since=instant, clears="at the next look at the workflow, within a minute")
        )
    return found


def _is_scheduled(document: Workflow, instant: datetime) -> bool:
    return document.schedule is not None and bool(schedule.due(document.schedule, instant - _SECOND, instant, limit=1))


def _unknown_instant(document: Workflow, run_id: RunId, instant: datetime, state: WorkflowState) -> Condition:
    rule = document.schedule
    if rule is None:
        text = f"{document.name} has no schedule, so nothing is due at {time_of(instant)}."
        return Condition("unknown_instant", run_id, text, since=state.changed_at, clears=f"runfold run {document.name}")
    before = schedule.previous(rule, instant)
    after = schedule.upcoming(rule, instant, 1)
    near = [*([time_of(before)] if before is not None else []), *(time_of(one.at) for one in after)]
    text = f"{document.name} is not scheduled at {time_of(instant)}"
    text += f"; the nearest instants are {names_of(near)}." if near else "."
    return Condition("unknown_instant", run_id, text, since=state.changed_at, clears=f"runfold run {document.name}")


def _dealt_with(state: WorkflowState, run_id: RunId, instant: datetime) -> Condition:
    again = f"runfold run {state.name}"
    registered = state.versions[0].registered_at
    if instant <= registered:
        text = f"{time_of(instant)} was before {state.name} was first registered, at {time_of(registered)}."
        return Condition("before_registration", run_id, text, since=registered, clears=again)
    assert state.watermark is not None
    return Condition(
        "not_a_run",
        run_id,
        f"Everything that was due up to {time_of(state.watermark)} has been dealt with, and {time_of(instant)} is not a run: it "
        "was not scheduled then, was skipped or missed by policy, or its run was pruned.",
        since=state.watermark,
        clears=again,
    )


def _paused(
    state: WorkflowState, run_id: RunId, pause: Pause, document: Workflow | None, instant: datetime
) -> Condition:
    text = (
        f"{state.name} was paused{by_whom(pause.by)} at {time_of(pause.at)}{with_reason(pause.reason)}; "
        "while it is paused no scheduled run starts."
    )
    if document is not None and document.schedule is not None:
        match document.schedule.catchup:
            case "none":
                until = time_of(instant + (bound_of(document.schedule) or MISFIRE_GRACE))
                text += f" If it is resumed after {until}, this instant counts as missed (catchup is none)."
            case "latest":
                text += " When it is resumed, only the latest instant that passed becomes a run (catchup is latest)."
            case "all":
                most = document.schedule.catchup_max
                text += f" When it is resumed, up to {most} instants that passed become runs (catchup is all)."
        if document.schedule.catchup != "none" and (bound := bound_of(document.schedule)) is not None:
            text += f" After {time_of(instant + bound)} it is too late for this one (misfire_minutes)."
    return Condition("paused", run_id, text, since=pause.at, clears=f"runfold resume {state.name}")


def _full(state: WorkflowState, run_id: RunId, document: Workflow) -> list[Condition]:
    limit = limit_of(document)
    if limit is None or len(state.holders) < limit:
        return []
    holders = sorted(state.holders, key=lambda run: (state.holders[run].admitted_at, run))
    then = {
        "allow": "it would wait",
        "queue": "it would wait",
        "skip": "it would be skipped",
        "cancel_running": f"{holders[0]} would be cancelled for it",
    }[document.overlap]
    return [
        Condition(
            "active_runs",
            run_id,
            f"{count_of(limit, 'run')} of {state.name} may be active at once, and {names_of(holders)} "
            f"{'is' if len(holders) == 1 else 'are'}: as long as that is so, {then} (overlap is {document.overlap}).",
            since=state.holders[holders[0]].admitted_at,
            clears=f"when {names_of(holders, 'or')} ends" if len(holders) <= 3 else "when an active run ends",
            holders=first_of(holders),
        )
    ]
