"""Makes the golden streams: histories that this release wrote, frozen beside what they fold to, for every later release to read.

Run as `python -m tests.golden.make` for whatever does not exist yet (README.md beside this file). A golden file is never made anew: if a change
of the code makes one fail, histories in the world fold differently too, and it is the change that is wrong. The stories together hold
every event with every field filled and left out; a new event or field needs a new story.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from shared import codec
from shared.decide.calendar import CalendarDraft
from shared.decide.commands import (
    AcceptDocument,
    AdmitRun,
    Advance,
    AdvanceBackfill,
    AskAgain,
    CancelBackfill,
    CancelJob,
    CancelRun,
    DocumentCommand,
    DropHeldRun,
    Finding,
    GrantPlaces,
    Look,
    MarkJob,
    NoticeCommand,
    PauseBackfill,
    PauseWorkflow,
    PlanNotices,
    PostponeStart,
    RecordLook,
    RecordNotSent,
    RecordRefusal,
    RecordReport,
    RecordRunEnd,
    RecordSent,
    RecordSilence,
    RecordStopSent,
    RecordUnheard,
    RefuseEvent,
    RegisterCalendar,
    RejectDocument,
    ReleaseClaim,
    ReleasePlace,
    RemoveDocument,
    ReopenRun,
    RequestBackfill,
    RequestPlace,
    ResumeBackfill,
    ResumeWorkflow,
    SetCapacity,
    TakePlace,
    Tick,
    UnregisterWorkflow,
)
from shared.decide.document import DocumentDraft
from shared.decide.notices import NoticesDraft
from shared.decide.occasions import Carry
from shared.events import (
    AttemptCancelled,
    AttemptFailed,
    Event,
    HeldRunDropped,
    ItemsCancelRequested,
    ItemsSettled,
    JobSettled,
    Notice,
    PoolResized,
    RunReleased,
    StopFlagged,
    StopRequested,
    UnknownEvent,
    WatermarkMoved,
    WorkflowPaused,
    WorkflowRegistered,
    WorkflowResumed,
    WorkflowUnregistered,
)
from shared.ids import BackfillId, Digest, JobName, PoolName, RunId, WorkflowName, instant_run, notice_id, run_stream
from shared.state.backfill import NoBackfill, fold_backfill
from shared.state.calendar import CalendarState, fold_calendar
from shared.state.document import Upload, fold_document
from shared.state.notices import NoticeLog, fold_notices
from shared.state.pool import NoPool, Place, fold_pool
from shared.state.run import FOLD_VERSION, NotRequested, Plans, Run, fold
from shared.state.snapshot import dump
from shared.state.workflow import NotRegistered, WorkflowState, fold_workflow
from shared.workflow.document import Workflow
from shared.workflow.plan import Plan, compile_plan
from tests.golden import people
from tests.golden.seen import AnyState, seen
from tests.rules.sentences import (
    NOON,
    RUN,
    WORKFLOW,
    calendar,
    claim,
    days,
    document,
    ended,
    fact,
    given,
    given_backfill,
    given_pool,
    given_workflow,
    hours,
    job,
    minutes,
    register,
    reopen,
    report,
    request_of,
    requested,
    seconds,
)

HERE = Path(__file__).parent

Commits = list[tuple[datetime, tuple[Event, ...]]]


def an_ordinary_night() -> tuple[list[Plan], Commits]:
    plan = document(
        job("extract"),
        job("transform", after=["extract"], retry=3, type="ecs"),
        job("check", after=["extract"], when="jobs.extract.outputs.rows > 10"),
        job("alarm", after=["transform"], when="any_failed"),
        job("publish", after=["transform", "check"], when="all_done"),
        parallelism=2,
    )
    request = {"start_after": NOON + minutes(5), "parameters": {"region": "eu", "größe": 1.5}, "admitted": True}
    request |= {"requested_by": "ada", "note": "by hand", "files": {"in.csv": "artifact:1"}}
    story = given(requested(plan, request=request), minutes(5), Advance())
    story = story.given(claim("extract", send_before=story.now + minutes(1)), seconds(2))
    story = story.given(report("extract", "running", handle="h-1", started_at=story.now), minutes(3))
    outputs = {"rows": 12, "names": ["a", "b"], "nested": {"x": None}}
    story = story.given(
        report("extract", "succeeded", handle="h-1", exit_code=0, outputs=outputs, files={"out.csv": "artifact:2"})
    )
    story = story.given(report("transform", "submitted", handle="h-2"), minutes(2))
    story = story.given(report("transform", "running", handle="h-2", started_at=story.now), seconds(1))
    story = story.given(report("transform", "running", handle="h-stray"), seconds(1))
    story = story.given(report("transform", "failed", handle="h-2", exit_code=3, reason="disk full"), minutes(1))
    story = story.given(report("check", "succeeded", handle="h-3"), Advance(), minutes(1))
    story = story.given(
        report("transform", "succeeded", 2, handle="h-4"), report("transform", "failed", 2, handle="h-4")
    )
    return [plan], list(story.given(minutes(1), report("publish", "succeeded", handle="h-5")).history)


def doubts_and_stops() -> tuple[list[Plan], Commits]:
    lost = {"policy": "assume_lost", "after_minutes": 5}
    plan = document(
        job("released"),
        job("silent", doubt=lost, retry=2),
        job("asked", doubt={"policy": "ask"}),
        job("slow", timeouts={"queue_minutes": 1, "run_minutes": 2, "total_minutes": 60}, retry=2),
        job("stopped"),
        job("flagged"),
    )
    story = given(requested(plan))
    for name in ("released", "silent", "asked"):
        story = story.given(claim(name, send_before=story.now + minutes(1)))
    story = story.given(seconds(1), ReleaseClaim(JobName("released"), 1, "one", "throttled", 30.0))
    story = story.given(
        RecordSilence(JobName("silent"), 1, "timed out"), RecordSilence(JobName("asked"), 1, "timed out")
    )
    story = story.given(report("slow", "running", handle="h-4"), report("stopped", "submitted", handle="h-5"))
    story = story.given(report("flagged", "submitted", handle="h-6"), CancelJob(JobName("flagged"), "ada", "enough"))
    story = story.given(CancelJob(JobName("stopped"), "ada", "enough"), RecordStopSent(JobName("stopped"), 1))
    story = story.given(seconds(5), report("stopped", "cancelled", handle="h-5", exit_code=143))
    story = story.given(minutes(3), Advance(), report("slow", "failed", handle="h-4", exit_code=137))
    story = story.given(minutes(3), Advance(), minutes(1), Advance(), report("silent", "running", handle="h-late"))
    story = story.given(minutes(10), Advance(), MarkJob(JobName("asked"), "succeeded", "bob", "the table is there"))
    return [plan], list(story.history)


def cancelled_and_reopened() -> tuple[list[Plan], Commits]:
    plan = document(job("a"), job("b", after=["a"]), job("gone", after=["a"]))
    newer = document(job("a"), job("b", after=["a"]), job("new", after=["b"]))
    story = given(requested(plan), report("a", "succeeded", handle="h-1", outputs={"n": 1}), minutes(1))
    story = story.given(report("gone", "failed", handle="h-2"), CancelRun("ada", "wrong day"), seconds(3))
    story = story.given(report("b", "cancelled"), hours(1))
    story = story.given(reopen(newer, failed=True, version=2, changes=("gone: removed",), request="r-1"), minutes(1))
    story = story.given(report("b", "failed", 2, handle="h-3", exit_code=1), minutes(1))
    story = story.given(MarkJob(JobName("b"), "skipped", "bob", "not needed"), reopen(plan, failed=True, request="r-2"))
    return [plan, newer], list(story.given(report("gone", "succeeded", 2, handle="h-4")).history)


def a_workflows_life() -> tuple[list[Plan], Commits]:
    one = document(job("load"), schedule={"cron": "0 * * * *", "catchup": "latest"}, overlap="queue")
    two = document(job("load"), schedule={"cron": "0 * * * *", "catchup": "none"}, overlap="skip")
    three = document(job("load"), schedule={"cron": "30 * * * *", "catchup": "all"}, overlap="cancel_running")
    by_hand = RunId("nightly@by-hand")
    story = given_workflow(register(one), hours(1), Tick(), AdmitRun(request_of(one, by_hand)), hours(1), Tick())
    story = story.given(DropHeldRun(by_hand, "ada", "changed my mind"), ended("nightly@2026-03-02T13:00:00Z"))
    story = story.given(
        register(two), hours(1), Tick(), PauseWorkflow("ada", "holiday"), hours(50), ResumeWorkflow("ada")
    )
    story = story.given(register(three), hours(1), Tick(), hours(1), Tick(), UnregisterWorkflow("ada", "over"))
    return [one, two, three], list(story.given(register(one), ended("nightly@2026-03-02T14:00:00Z", "failed")).history)


def an_uploads_life() -> tuple[list[Plan], Commits]:
    commits: Commits = []
    state = Upload()
    commands: list[DocumentCommand] = [
        AcceptDocument("etag-1", WorkflowName("nightly"), Digest("d" * 64)),
        RejectDocument("etag-2", ("jobs[0].name: is missing", "größe: unknown")),
        RemoveDocument("delete-1"),
    ]
    for number, command in enumerate(commands):
        draft = DocumentDraft(state, NOON + minutes(number))
        draft.decide(command)
        commits.append((draft.now, tuple(draft.events)))
        state = draft.state
    return [], commits


def odd_days() -> tuple[list[Plan], Commits]:
    """Excluded days by the schedule and by calendars, there and not; turns that spread an outage; a queue that is full."""
    calendar("bank-holidays", "2026-03-04", version=3)
    rule = {"cron": "0 13 * * *", "catchup": "all", "starts_per_minute": 1}
    rule |= {"exclude": {"days": ["2026-03-03"], "calendars": ["bank-holidays"]}}
    lost = {**rule, "exclude": {"calendars": ["nobody-has-it"]}}
    one, two = document(job("load"), schedule=rule), document(job("load"), schedule=lost)
    story = given_workflow(register(one), days(8), Tick(), minutes(1), Tick(), register(two), days(1), Tick())
    full = fact(WatermarkMoved, until=story.now, next_at=story.now, stalled=True)
    return [one, two], list(story.given(full, days(1), Tick()).history)


def a_calendars_life() -> tuple[list[Plan], Commits]:
    commits: Commits = []
    state = CalendarState()
    for number, command in enumerate(
        (
            RegisterCalendar("bank-holidays", ("2026-12-25", "01-01"), "Europe/Berlin", "of größe", "ada", "x.json"),
            RegisterCalendar("bank-holidays", ("saturday", "2026-12-24/2027-01-01"), None, "", "", ""),
            RegisterCalendar("bank-holidays", (), None, "", "", ""),
        )
    ):
        draft = CalendarDraft(state, NOON + minutes(number))
        draft.decide(command)
        commits.append((draft.now, tuple(draft.events)))
        state = draft.state
    return [], commits


def an_uploaded_calendar() -> tuple[list[Plan], Commits]:
    draft = DocumentDraft(Upload(), NOON)
    draft.decide(AcceptDocument("etag-1", WorkflowName(""), Digest("d" * 64), "bank-holidays"))
    return [], [(NOON, tuple(draft.events))]


def every_end() -> tuple[list[Plan], Commits]:
    """How attempts and jobs can end, each field told and untold; what no rule of today emits stands as it would be stored."""
    lost = {"policy": "assume_lost", "after_minutes": 5}
    plan = document(
        *(job(name) for name in ("well", "ill", "outside", "quiet", "uncapable", "refused", "marked")),
        job("given-up", doubt=lost),
        job("stopped", doubt=lost),
        job("later", after=["marked"]),
        job("last"),
        *(job(name, after=["last"]) for name in ("s1", "s2", "s3", "s4")),
    )
    day = {"scheduled_at": NOON, "interval_start": NOON - hours(24), "interval_end": NOON}
    request = {"trigger": "backfill", "previous_success_at": NOON - hours(24), **day}
    story = given(requested(plan, request=request), minutes(1))
    began, over = story.now + minutes(1), story.now + minutes(2)
    times: dict[str, Any] = {"started_at": began, "ended_at": over}
    story = story.given(minutes(2), report("well", "succeeded", handle="h-1", **times))
    outputs = {"rows": 0}
    story = story.given(report("ill", "failed", handle="h-2", exit_code=1, reason="no rows", outputs=outputs, **times))
    story = story.given(
        report("outside", "submitted", handle="h-3"), report("outside", "cancelled", exit_code=137, **times)
    )
    story = story.given(RecordRefusal(JobName("uncapable"), 1, "capacity", "no room"))
    story = story.given(report("refused", "failed", failure="refused", reason="no such image"))
    story = story.given(fact(AttemptFailed, job="marked", attempt=1, failure="cancelled"))
    story = story.given(MarkJob(JobName("outside"), "failed", "bob", "it did not do what it should"))
    story = story.given(report("given-up", "running", handle="h-4", started_at=began), seconds(1))
    story = story.given(report("given-up", "unknown", handle="h-4", reason="the host rebooted"))
    story = story.given(RecordSilence(JobName("stopped"), 1, "timed out"), CancelJob(JobName("stopped"), "ada"))
    story = story.given(
        fact(StopRequested, job="quiet", attempt=1, cause="mark"), fact(StopFlagged, job="quiet", attempt=1)
    )
    story = story.given(fact(AttemptCancelled, job="quiet", attempt=1))
    story = story.given(report("ill", "running", handle="h-stray"), minutes(6), Advance())
    story = story.given(report("given-up", "succeeded", handle="h-4", exit_code=0))
    for name, outcome in zip(("s1", "s2", "s3", "s4"), ("succeeded", "failed", "timed_out", "cancelled"), strict=True):
        story = story.given(fact(JobSettled, job=name, outcome=outcome))
    return [plan], list(story.given(report("last", "succeeded", handle="h-9")).history)


def asked_again() -> tuple[list[Plan], Commits]:
    """Starts that were put off, claims after looks, doubts and what ended them."""
    plan = document(
        job("put-off", type="ecs"),
        job("away", type="ecs", retry={"capacity": {"attempts": 2, "delay_seconds": 1}}),
        *(job(name) for name in ("bound", "seen-to-end", "in-vain", "nobody-wants")),
        job("waits-for-a-place", retry=2),
        parallelism=6,
    )
    names = ("bound", "seen-to-end", "in-vain", "nobody-wants")
    story = given(requested(plan), seconds(1))
    story = story.given(PostponeStart(JobName("put-off"), 1, "throttled", 30.0, first=False), seconds(31))
    story = story.given(
        PostponeStart(JobName("put-off"), 1, "away", 60.0, first=False),
        PostponeStart(JobName("away"), 1, "away", 5.0, first=False),
    )
    for name in names:
        story = story.given(claim(name, send_before=story.now + minutes(1)))
        story = story.given(RecordSilence(JobName(name), 1, "timed out"))
    story = story.given(CancelJob(JobName("nobody-wants"), "ada", "not today"), minutes(2))
    looked_at = story.now
    for name in ("bound", "seen-to-end", "in-vain"):
        again = claim(name, 1, "two", send_before=story.now + minutes(1), looked_at=looked_at)
        story = story.given(again, seconds(1), RecordSilence(JobName(name), 1, "timed out again"))
    story = story.given(RecordReport(JobName("nobody-wants"), 1, "missing", looked_at=looked_at), seconds(5))
    story = story.given(claim("waits-for-a-place", send_before=story.now + minutes(1)))
    story = story.given(report("put-off", "running", handle="h-1", started_at=story.now))
    story = story.given(RecordRefusal(JobName("away"), 1, "capacity", "no room"), seconds(5), Advance())
    story = story.given(
        PostponeStart(JobName("away"), 2, "throttled", 5.0, first=False), CancelJob(JobName("away"), "ada")
    )
    story = story.given(report("away", "missing", 2))
    story = story.given(report("bound", "running", handle="h-2"), report("seen-to-end", "succeeded", handle="h-3"))
    story = story.given(
        minutes(2), RecordRefusal(JobName("in-vain"), 1, "capacity", "in vain", looked_at=story.now + minutes(2))
    )
    story = story.given(report("bound", "unknown", handle="h-2"), report("bound", "running", handle="h-2"))
    story = story.given(
        report("bound", "failed", handle="h-2", exit_code=2), report("put-off", "succeeded", handle="h-1")
    )
    story = story.given(
        report("waits-for-a-place", "failed", handle="h-5", failure="infrastructure", reason="the host is gone")
    )
    return [plan], list(story.given(CancelRun("ada")).history)


def away_from_the_first() -> tuple[list[Plan], Commits]:
    """A target that is away answers the first request and all that follow, until another attempt is made, or it is back."""
    plan = document(
        *(
            job(name, type="ecs", retry={"capacity": {"attempts": 2, "delay_seconds": 1}})
            for name in ("given-up", "back")
        )
    )
    story = given(requested(plan), seconds(1))
    for name in ("given-up", "back"):
        story = story.given(PostponeStart(JobName(name), 1, "cannot connect", 30.0, first=True))
    story = story.given(seconds(31), PostponeStart(JobName("given-up"), 1, "throttled", 300.0, first=False))
    story = story.given(report("back", "running", handle="h-1", started_at=story.now))
    story = story.given(minutes(50), RecordRefusal(JobName("given-up"), 1, "capacity", "asked for in vain"))
    return [plan], list(story.given(CancelRun("ada")).history)


def one_asks_at_a_time() -> tuple[list[Plan], Commits]:
    """Who asks a target again that took nothing so far says so before; what became of his request, and of a twin's, may never be heard."""
    plan = document(*(job(name, type="ecs") for name in ("answered", "died", "silent")))
    story = given(requested(plan), seconds(1))
    story = story.given(RecordUnheard(JobName("silent"), 1, 30.0))
    for name in ("answered", "died"):
        story = story.given(PostponeStart(JobName(name), 1, "cannot connect", 30.0, first=True))
    story = story.given(seconds(31))
    for name in ("answered", "died"):
        story = story.given(AskAgain(JobName(name), 1, "one", 30.0))
    story = story.given(PostponeStart(JobName("answered"), 1, "throttled", 300.0, first=False, claimer="one"))
    story = story.given(seconds(31), AskAgain(JobName("died"), 1, "two", 30.0))
    story = story.given(report("died", "running", handle="h-1", started_at=story.now))
    story = story.given(minutes(5), RecordUnheard(JobName("answered"), 1, 30.0))
    return [plan], list(story.given(CancelRun("ada")).history)


def from_every_phase() -> tuple[list[Plan], Commits]:
    """Ends, stops and marks that meet attempts in the phases where they are rare."""
    ends = ("q-ended", "c-ended", "d-ended", "c-failed", "c-cancelled")
    stops = ("q-stopped", "c-stopped", "s-stopped", "d-stopped")
    plan = document(
        *(job(name, type="ecs") for name in (*ends, *stops, "again")),
        job("ready-marked"),
        job("ready-settled"),
        job("joins", after=["ready-marked", "again"], when="all_done"),
        parallelism=10,
    )
    story = given(requested(plan), seconds(1))
    for name in ("c-ended", "c-failed", "c-cancelled", "c-stopped"):
        story = story.given(claim(name, send_before=story.now + minutes(1)))
    story = story.given(report("s-stopped", "submitted", handle="h-1"))
    story = story.given(report("d-stopped", "running", handle="h-2"), report("d-stopped", "unknown", handle="h-2"))
    story = story.given(report("d-stopped", "running", handle="h-3"), RecordSilence(JobName("d-ended"), 1, "timed out"))
    story = story.given(MarkJob(JobName("ready-marked"), "skipped", "bob", "not today"))
    story = story.given(CancelJob(JobName("ready-settled"), "ada"), seconds(1))
    for name in stops:
        story = story.given(CancelJob(JobName(name), "ada"), RecordStopSent(JobName(name), 1))
    story = story.given(report("c-cancelled", "cancelled"), report("c-failed", "failed", exit_code=1))
    for name in ("q-ended", "c-ended", "d-ended"):
        story = story.given(report(name, "succeeded", exit_code=0))
    story = story.given(minutes(15), Advance())
    for name in stops:
        story = story.given(MarkJob(JobName(name), "failed", "bob", "nobody confirms it"))
    story = story.given(report("again", "failed", failure="infrastructure"), report("again", "running", handle="h-4"))
    return [plan], list(story.given(MarkJob(JobName("again"), "succeeded", "bob", "it is there")).history)


def changes_of_mind() -> tuple[list[Plan], Commits]:
    """A stop for taking too long that a person then wants too, flagged both times; a mark that dependents in waiting count anew."""
    plan = document(
        job("slow", timeouts={"run_minutes": 2}, retry=2),
        job("a"),
        job("b"),
        job("joins", after=["a", "b"], when="any_failed"),
        job("follows", after=["a", "b"]),
    )
    story = given(requested(plan), report("slow", "running", handle="h-1"), report("a", "failed", handle="h-2"))
    for outcome in ("succeeded", "skipped", "failed", "succeeded"):
        story = story.given(seconds(5), MarkJob(JobName("a"), outcome, "bob", "looked again"))
    story = story.given(minutes(3), Advance(), minutes(15), Advance(), CancelJob(JobName("slow"), "ada", "enough"))
    story = story.given(minutes(15), Advance(), report("slow", "cancelled", handle="h-1", exit_code=143))
    return [plan], list(story.given(report("b", "succeeded", handle="h-3")).history)


def rounds() -> tuple[list[Plan], Commits]:
    """Run again on other documents, with other parameters; jobs that go and come back; marks at every time."""
    region = {"type": "object", "properties": {"region": {"type": "string"}}}
    one = document(job("a"), job("b", after=["a"]), job("c", after=["b"]), job("d", after=["a"]), parameters=region)
    two = document(job("a"), job("c", after=["a"]), job("e", after=["c"], when="any_failed"))
    story = given(requested(one, request={"parameters": {"region": "eu"}}), report("a", "succeeded", handle="h-1"))
    story = story.given(report("b", "failed", handle="h-2"), report("d", "succeeded", handle="h-3", outputs={"x": [1]}))
    again = ReopenRun((JobName("c"),), False, two.digest, 2, ("b: removed",), "ada", "a new source", "", {})
    story = story.given(
        hours(1), again, minutes(1), report("c", "failed", handle="h-4"), report("e", "succeeded", handle="h-5")
    )
    story = story.given(MarkJob(JobName("c"), "succeeded", "bob", "loaded by hand"), minutes(1))
    back = ReopenRun((JobName("a"),), True, one.digest, 3, (), "ada", "", "r-3", {"region": "us"})
    story = story.given(hours(1), back, report("a", "succeeded", 2, handle="h-6"), minutes(1))
    story = story.given(
        MarkJob(JobName("c"), "skipped", "bob", "not needed"), report("b", "succeeded", 2, handle="h-7")
    )
    story = story.given(report("d", "submitted", 2, handle="h-8"), report("b", "failed", 1, handle="h-2b"))
    return [one, two], list(story.given(CancelRun("ada"), report("d", "cancelled", 2, handle="h-8")).history)


def without_words() -> tuple[list[Plan], Commits]:
    """A workflow whose people gave no reasons and no names, whose schedule ends, and whose runs end in every way."""
    plan = document(job("load"), schedule={"at": "2026-03-02T13:00:00Z"}, overlap="queue")
    runs = [RunId(f"nightly@by-hand-{number}") for number in range(5)]
    story = given_workflow(register(plan), hours(2), Tick())
    for run in runs:
        story = story.given(AdmitRun(request_of(plan, run)))
    story = story.given(fact(HeldRunDropped, run=runs[4]), ended("nightly@2026-03-02T13:00:00Z", "cancelled"))
    story = story.given(ended(runs[0], "lost"), fact(RunReleased, run=runs[1], outcome="succeeded"), Tick())
    story = story.given(
        ended(runs[2], "cancelled"), fact(WorkflowPaused), fact(WorkflowResumed), fact(WorkflowUnregistered)
    )
    again = fact(WorkflowRegistered, workflow=WORKFLOW, document=plan.digest, version=2, source="etag-7")
    return [plan], list(story.given(again, fact(WatermarkMoved, until=story.now)).history)


def places_in_a_pool() -> tuple[list[Plan], Commits]:
    """Jobs that wait for places in a pool, and everything that may become of them meanwhile."""
    pool = PoolName("warehouse")
    names = [f"j{number}" for number in range(9)]
    jobs = [job(name, pool=pool, retry=2) for name in names]
    heavy = job("heavy", pool={"name": pool, "weight": 3}, priority=9)
    plan = document(*jobs, heavy, job("plain"), job("elsewhere", pool="other", retry=2), parallelism=6)

    def take(name: str, attempt: int = 1) -> TakePlace:
        return TakePlace(JobName(name), attempt, 1, pool)

    story = given(requested(plan), take("heavy"), take("j0"), report("heavy", "submitted", handle="h-heavy"))
    story = story.given(
        report("heavy", "failed", handle="h-heavy", exit_code=1), take("j1"), CancelJob(JobName("j2"), "ada")
    )
    story = story.given(TakePlace(JobName("elsewhere"), 1, 1, PoolName("other")))
    story = story.given(report("elsewhere", "failed", handle="h-elsewhere", exit_code=1))
    story = story.given(MarkJob(JobName("j3"), "skipped", "ada", "not tonight"), minutes(1), Advance())
    # More than it may have under way have their places: some wait with theirs, one of them in vain.
    story = story.given(take("j4"), take("j5"), take("j6"), report("j0", "submitted", handle="h-0"))
    story = story.given(report("j0", "succeeded", handle="h-0"), take("j7"), take("j8"))
    story = story.given(MarkJob(JobName("j8"), "failed", "ada", "not tonight"), CancelRun("ada"))
    return [plan], list(story.given(Advance()).history)


def a_pools_life() -> tuple[list[Plan], Commits]:
    """A pool that is asked before anybody gave it a capacity, grows, shrinks, and gets everything back."""
    pool = PoolName("warehouse")

    def place(number: int, round_: int = 1) -> Place:
        return Place(RunId(f"nightly@{number}"), JobName("load"), 1, round_)

    def ask(one: Place, weight: int = 1, priority: int = 0) -> RequestPlace:
        return RequestPlace(pool, one, weight, priority, NOON)

    story = given_pool(ask(place(1)), ask(place(2)), ask(place(3), priority=5), ask(place(4), weight=9), minutes(3))
    story = story.given(
        ReleasePlace(place(1)), SetCapacity(pool, 2, "ada"), ReleasePlace(place(3), "no attempt has it")
    )
    story = story.given(ask(place(2, 2)), ask(place(5)), ReleasePlace(place(5)), SetCapacity(pool, 0, "ada"))
    story = story.given(ask(place(5, 2)), ReleasePlace(place(5, 2)))
    story = story.given(fact(PoolResized, pool=pool, capacity=4), ask(place(6)), minutes(5), GrantPlaces())
    story = story.given(
        ReleasePlace(place(2)), ReleasePlace(place(4)), ReleasePlace(place(2, 2)), ReleasePlace(place(6))
    )
    return [], list(story.history)


def a_newer_release() -> tuple[list[Plan], Commits]:
    """A history that this code may show and must not decide on."""
    plan = document(job("load"))
    history = list(given(requested(plan), report("load", "submitted", handle="h-1")).history)
    newer = UnknownEvent(type="JobTeleported", fields={"job": "load", "deep": {"x": [1, None, "ü"]}})
    return [plan], [*history, (NOON + minutes(1), (newer,))]


def against_the_clock() -> tuple[list[Plan], Commits]:
    """Late to start and past its deadline; done again, late because it takes long; and once on time."""
    plan = document(job("a"), late={"start_minutes": 5, "expected_minutes": 30}, deadline={"minutes": 60})
    request = {"trigger": "schedule", "scheduled_at": NOON - minutes(6)}
    story = given(requested(plan, request=request), minutes(55), Advance(), minutes(1))
    story = story.given(report("a", "succeeded", handle="h-1"), hours(1), reopen(plan, "a", request="r-1"))
    story = story.given(minutes(31), Advance(), report("a", "failed", 2, handle="h-2"), hours(1))
    story = story.given(reopen(plan, "a", request="r-2"), minutes(2))
    return [plan], list(story.given(report("a", "succeeded", 3, handle="h-3")).history)


def of_a_backfill() -> tuple[list[Plan], Commits]:
    plan = document(job("load"))
    request = {"trigger": "backfill", "backfill": BackfillId("nightly@b1"), "scheduled_at": NOON}
    story = given(requested(plan, request=request), report("load", "submitted", handle="h-1"), minutes(1))
    return [plan], list(story.given(report("load", "succeeded", handle="h-1")).history)


def _backfill(**fields: Any) -> tuple[Plan, RequestBackfill]:
    plan = document(job("load"), schedule={"cron": "0 13 * * *"})
    told: dict[str, Any] = {"order": "oldest", "which": "missing", "max_active": 1, "parameters": {}, "by": ""}
    told |= {"range_from": NOON - days(5), "range_until": NOON, "previous_success_at": None} | fields
    return plan, RequestBackfill(BackfillId("nightly@b1"), WORKFLOW, plan.digest, 2, **told)


def _looks(*statuses: Any) -> AdvanceBackfill:
    """What is seen of the instants from the oldest on."""
    first = NOON - days(5) + hours(1)
    numbered = [(first + days(number), status) for number, status in enumerate(statuses)]
    return AdvanceBackfill({at: Look(0 if status == "none" else 1, status) for at, status in numbered})


def _end(day: int, outcome: Any, number: int = 1) -> RecordRunEnd:
    return RecordRunEnd(instant_run(WORKFLOW, NOON - days(5) + hours(1) + days(day), number), outcome)


def what_was_missed() -> tuple[list[Plan], Commits]:
    told = {
        "parameters": {"region": "eu"},
        "previous_success_at": NOON - days(9),
        "by": "ada",
        "reason": "a late source",
    }
    plan, command = _backfill(max_active=2, **told)
    look = _looks("none", "succeeded", "none", "none", "none")
    story = given_backfill(command, minutes(1), look, minutes(1), PauseBackfill("ada", "lunch"))
    story = story.given(minutes(5), _end(0, "succeeded"), ResumeBackfill("ada"), minutes(1), look, minutes(1))
    story = story.given(_end(2, "succeeded"), look, _end(3, "taken"), minutes(1))
    return [plan], list(story.given(_end(4, "succeeded")).history)


def what_failed() -> tuple[list[Plan], Commits]:
    plan, command = _backfill(which="failed", order="newest")
    look = _looks("failed", "none", "cancelled", "active", "failed")
    story = given_backfill(command, look, minutes(1), _end(4, "failed", 2), look, minutes(1))
    story = story.given(_end(2, "cancelled", 2), look, PauseBackfill(""), ResumeBackfill(""), minutes(1))
    return [plan], list(story.given(_end(0, "succeeded", 2)).history)


def a_cancelled_backfill() -> tuple[list[Plan], Commits]:
    plan, command = _backfill(which="all", max_active=3)
    story = given_backfill(command, _looks("unreadable", "succeeded", "none", "none"), minutes(1))
    story = story.given(CancelBackfill("bob", "the wrong range"), _end(1, "cancelled", 2), minutes(1))
    return [plan], list(story.given(_end(2, "cancelled"), minutes(1), _end(3, "failed")).history)


def a_backfill_without_words() -> tuple[list[Plan], Commits]:
    plan, command = _backfill()
    return [plan], list(given_backfill(command, minutes(1), CancelBackfill("")).history)


def started_by_events() -> tuple[list[Plan], Commits]:
    """A workflow with triggers: events that become runs, wait, are missed, refused and dropped."""
    up: dict[str, Any] = {"name": "up", "type": "s3", "bucket": "landing", "while_paused": "queue"}
    hook: dict[str, Any] = {"name": "hook", "type": "webhook", "secret": "env:HOOK"}
    plan = document(job("load"), triggers=[up, hook], max_active_runs=1)
    bare = document(job("load"), max_active_runs=1)

    def asked(run: str, name: str = "up", chain: int = 0) -> AdmitRun:
        told = {"trigger": "event", "trigger_name": name, "trigger_event": f"s3://landing/{run}", "chain": chain}
        return AdmitRun(request_of(plan, RunId(f"nightly@{run}"), admitted=True, **told))

    def refused(run: str, content: str = "") -> RefuseEvent:
        problems = ("params.key: is missing", "größe: is not known")
        return RefuseEvent(RunId(f"nightly@{run}"), "hook", "webhook d-1", content, problems)

    story = given_workflow(
        register(plan), asked("ta"), asked("tb", chain=2), minutes(1), PauseWorkflow("ada", "holiday")
    )
    story = story.given(asked("tc"), asked("td", "hook"), refused("te", '{"detail": {"größe": 1}}'), refused("tf"))
    story = story.given(DropHeldRun(RunId("nightly@tc"), "ada", "not today"), ResumeWorkflow("ada"))
    story = story.given(ended("nightly@ta"), register(bare), asked("tg"), refused("te"))
    return [plan, bare], list(story.history)


def waits() -> tuple[list[Plan], Commits]:
    """A run that waits as a whole, and jobs of it that wait for every kind of thing; each wait ends in another way."""
    ingest = {"workflow": "ingest"}
    plan = document(
        job("fetch"),
        job("load", after=["fetch"], waits_for=[{**ingest, "job": "clean", "lag": "1 day"}]),
        job("late", waits_for=[{**ingest, "timeout_minutes": 10}]),
        job("anyway", waits_for=[{"file": "/in/a.csv", "timeout_minutes": 10, "on_timeout": "go_on"}]),
        job("gone", waits_for=[{**ingest, "lag_instants": 1}]),
        waits_for=[{**ingest, "timeout_minutes": 60}, {"workflow": "rates", "latest_within_minutes": 90}],
    )
    other = document(job("load"), waits_for=[{"workflow": "rates", "timeout_minutes": 5}])

    def found(name: str, number: int = 0, **fields: Any) -> Finding:
        return Finding(JobName(name), number, **{"there": True, **fields})

    def look(*findings: Finding) -> RecordLook:
        return RecordLook(findings, NOON + minutes(30))

    story = given(requested(plan, request={"scheduled_at": NOON, "trigger": "schedule"}), minutes(1))
    at_noon: dict[str, Any] = {"run": "ingest@2026-03-02T12:00:00Z", "version": 4, "outcome": "succeeded"}
    story = story.given(look(found("", 1, reason="it succeeded at 2026-03-02T11:00:00Z")), look(found("", **at_noon)))
    skipped = found("gone", there=False, reason="overlap is skip")
    story = story.given(minutes(1), report("fetch", "succeeded", handle="h-1"), look(skipped), minutes(30), look())
    story = story.given(look(found("load", **at_noon)), report("anyway", "succeeded", handle="h-2"))
    story = story.given(report("load", "succeeded", handle="h-3"))
    failed = found("", run="rates@2026-03-02T12:00:00Z", version=3, outcome="failed")
    again = [ReopenRun((JobName("load"),), False, other.digest, 2, (), "ada", "", f"r-{number}") for number in (1, 2)]
    story = story.given(hours(1), again[0], minutes(1), look(failed), again[1], minutes(5))
    return [plan, other], list(story.given(RecordLook((), story.now)).history)


def for_each() -> tuple[list[Plan], Commits]:
    """Fan-outs over ranges, lists and parameters: retried, tolerated, cancelled, given up, joined, and done again in part and whole."""
    one = document(
        job("load", retry=2, for_each={"items": {"range": 3}, "max_parallel": 2, "tolerate": {"count": 1}}),
        job("none", for_each={"items": []}),
        job("given", for_each={"parameter": "files"}),
        job("after", after=["load"], for_each={"items": "{{ jobs.load.outputs }}"}),
        job("bad", after=["none"], for_each={"items": {"range": "{{ params.files }}"}}),
    )
    story = given(requested(one, request={"parameters": {"files": ["a", {"b": 1}]}}), seconds(5))
    story = story.given(
        report("load:0", "failed", handle="h-0"), report("load:1", "succeeded", handle="h-1", outputs={"x": 1})
    )
    story = story.given(minutes(2), Advance(), report("load:0", "failed", 2, handle="h-0b"), minutes(1))
    story = story.given(CancelJob(JobName("given:1"), "ada"), report("given:1", "cancelled", handle="h-2"))
    story = story.given(CancelJob(JobName("given"), "ada", "enough"), report("given:0", "cancelled", handle="h-3"))
    story = story.given(report("load:2", "succeeded", handle="h-4"), report("after:0", "failed", handle="h-5"))
    story = story.given(report("after:2", "running", handle="h-6"), minutes(1))
    story = story.given(report("after:2", "succeeded", handle="h-6"), report("after:1", "succeeded", handle="h-7"))
    story = story.given(hours(1), reopen(one, failed=True, request="r-1"), minutes(1))
    story = story.given(report("given:1", "succeeded", 2, handle="h-8"), CancelRun("bob"))
    story = story.given(report("given:0", "missing", 2), report("after:0", "missing", 2), hours(1))
    story = story.given(
        reopen(one, "load:1", "given", request="r-2"), fact(ItemsCancelRequested, job="given", by="bob")
    )
    return [one], list(story.given(minutes(1), Advance()).history)


def given_up() -> tuple[list[Plan], Commits]:
    """A fan-out that fails with items that never began, without a word why; one of them is marked, and all are done again."""
    plan = document(job("load", for_each={"items": ["a", "b", "c", "d"]}), parallelism=1)
    story = given(requested(plan), MarkJob(JobName("load:3"), "succeeded", "ada", "by hand"))
    story = story.given(report("load:0", "failed", handle="h-1"), hours(1), reopen(plan, failed=True, request="r-1"))
    story = story.given(fact(ItemsSettled, job="load", outcome="cancelled", count=2))
    return [plan], list(story.given(report("load:0", "succeeded", 2, handle="h-2")).history)


def a_life_of_notices() -> tuple[list[Plan], Commits]:
    """One that is taken at once, one after a refusal, one that is given up; what follows later; and one that nobody has answered yet."""
    source = run_stream(RUN)

    def notice(version: int, rule: int, on: Any = "failed", channel: Any = "email") -> Notice:
        name = notice_id(source, version, on, rule)
        text = {"to": "größe@example.com", "subject": "[runfold] nightly@1", "text": "nightly@1 failed."}
        return Notice(id=name, on=on, rule=rule, version=version, at=NOON, channel=channel, **text)

    first = PlanNotices(
        source, Digest("d" * 64), 3, Carry(True, "failed", 2), (notice(2, 0), notice(3, 1), notice(3, 2))
    )
    second = PlanNotices(
        source, Digest("e" * 64), 9, Carry(False, "succeeded"), (notice(9, 0, "recovered", "webhook"),)
    )
    third = PlanNotices(source, Digest("e" * 64), 10, Carry(), (notice(10, 0, "started", "sns"),))
    commands: list[NoticeCommand] = [
        first,
        RecordSent(notice(2, 0).id, "m-1"),
        RecordNotSent(notice(3, 1).id, 1, "busy", never=False),
        RecordSent(notice(3, 1).id, ""),
        RecordNotSent(notice(3, 2).id, 1, "", never=True),
        second,
        RecordNotSent(notice(9, 0, "recovered").id, 1, "silence", never=False),
        third,
    ]
    commits: Commits = []
    state = NoticeLog()
    for number, command in enumerate(commands):
        draft = NoticesDraft(state, NOON + minutes(number))
        draft.decide(command)
        commits.append((draft.now, tuple(draft.events)))
        state = draft.state
    return [], commits


STORIES: dict[str, Callable[[], tuple[list[Plan], Commits]]] = {
    "run-an-ordinary-night": an_ordinary_night,
    "run-doubts-and-stops": doubts_and_stops,
    "run-cancelled-and-reopened": cancelled_and_reopened,
    "run-every-end": every_end,
    "run-asked-again": asked_again,
    "run-away-from-the-first": away_from_the_first,
    "run-one-asks-at-a-time": one_asks_at_a_time,
    "run-from-every-phase": from_every_phase,
    "run-changes-of-mind": changes_of_mind,
    "run-rounds": rounds,
    "run-against-the-clock": against_the_clock,
    "notices-a-life": a_life_of_notices,
    "run-waits": waits,
    "run-for-each": for_each,
    "run-given-up": given_up,
    "run-a-newer-release": a_newer_release,
    "workflow-a-life": a_workflows_life,
    "workflow-without-words": without_words,
    "workflow-started-by-events": started_by_events,
    "workflow-odd-days": odd_days,
    "calendar-a-life": a_calendars_life,
    "document-a-life": an_uploads_life,
    "run-of-a-backfill": of_a_backfill,
    "backfill-what-was-missed": what_was_missed,
    "backfill-what-failed": what_failed,
    "backfill-cancelled": a_cancelled_backfill,
    "backfill-without-words": a_backfill_without_words,
    "document-a-calendar": an_uploaded_calendar,
    "run-places": places_in_a_pool,
    "pool-a-life": a_pools_life,
    "run-decisions": people.decisions,
    "run-a-child": people.a_child,
    "workflow-a-childs-place": people.a_childs_place,
}


Timed = list[tuple[datetime, tuple[Event, ...]]]


def commits_of(golden: Mapping[str, Any]) -> Timed:
    return [
        (datetime.fromisoformat(commit["at"]), codec.events_in(json.dumps(commit["events"], ensure_ascii=False)))
        for commit in golden["commits"]
    ]


def plans_of(golden: Mapping[str, Any]) -> Plans:
    return {
        Digest(one["digest"]): compile_plan(Workflow.model_validate(one["document"]), Digest(one["digest"]))
        for one in golden["documents"]
    }.__getitem__


def states_of(kind: str, golden: Mapping[str, Any]) -> list[AnyState]:
    """The state after each commit, up to the first that holds an event of a newer release."""
    plans, found = plans_of(golden), list[AnyState]()
    state: Any = {
        "run": NotRequested(),
        "workflow": NotRegistered(),
        "document": Upload(),
        "calendar": CalendarState(),
        "backfill": NoBackfill(),
        "pool": NoPool(),
        "notices": NoticeLog(),
    }[kind]
    for at, events in commits_of(golden):
        if any(isinstance(event, UnknownEvent) for event in events):
            break
        timed = [(at, event) for event in events]
        match kind:
            case "run":
                state = fold(timed, plans, state)
            case "workflow":
                state = fold_workflow(timed, state)
            case "backfill":
                state = fold_backfill(timed, state)
            case "calendar":
                state = fold_calendar(timed, state)
            case "pool":
                state = fold_pool(timed, state)
            case "notices":
                state = fold_notices(timed, state)
            case _:
                state = fold_document(timed, state)
        found.append(state)
    return found


def changes_of(states: list[AnyState]) -> list[dict[str, Any]]:
    """What each state says that the one before it did not: keys of the whole, and jobs; a job that is not there any more is `gone`."""
    changes: list[dict[str, Any]] = []
    before: dict[str, Any] = {}
    for state in states:
        now = dict(seen(state))
        change = {key: value for key, value in now.items() if before.get(key, ...) != value}
        if "jobs" in change:
            old = {one["job"]: one for one in before.get("jobs", [])}
            new = {one["job"]: one for one in now["jobs"]}
            gone = [{"job": name, "gone": True} for name in old if name not in new]
            change["jobs"] = [one for name, one in new.items() if old.get(name) != one] + gone
        changes.append(change)
        before = now
    return changes


def outcome_of(kind: str, documents: list[Any], commits: list[Any]) -> Any:
    """What the stored commits fold to, as JSON in words that do not depend on how the state is built."""
    timed = [
        (datetime.fromisoformat(commit["at"]), event)
        for commit in commits
        for event in codec.events_in(json.dumps(commit["events"], ensure_ascii=False))
    ]
    plans = {
        Digest(one["digest"]): compile_plan(Workflow.model_validate(one["document"]), Digest(one["digest"]))
        for one in documents
    }
    match kind:
        case "run":
            run = fold(timed, plans.__getitem__)
            assert isinstance(run, Run)
            return _run_seen(run)
        case "workflow":
            workflow = fold_workflow(timed, NotRegistered())
            assert isinstance(workflow, WorkflowState)
            return _workflow_seen(workflow)
        case _:
            upload = fold_document(timed)
            return {
                "upload": upload.upload,
                "workflow": upload.workflow,
                "problems": list(upload.problems),
                "removed": upload.removed,
            }


def _run_seen(run: Run) -> Any:
    return {
        "status": run.status,
        "round": run.round,
        "document_version": run.document_version,
        "started_at": _moment(run.started_at),
        "finished_at": _moment(run.finished_at),
        "counts": [run.active, run.unfinished, run.flagged, run.doubted, run.stopping],
        "tally": dict(sorted(run.tally.items())),
        "cancelled_by": run.cancel.by if run.cancel else None,
        "live": sorted(run.live),
        "jobs": {
            name: {
                "status": run.jobs[name].status,
                "outputs": dict(run.jobs[name].outputs or {}),
                "files": dict(run.jobs[name].files or {}),
                "strays": sorted(run.jobs[name].strays or {}),
                "attempts": [
                    {
                        "attempt": one.attempt,
                        "round": one.round,
                        "status": one.status,
                        "handle": one.handle,
                        "exit_code": one.exit_code,
                        "failure": one.failure,
                        "reason": one.reason,
                        "late": list(one.late),
                        "queued_at": _moment(one.queued_at),
                        "started_at": _moment(one.started_at),
                        "recorded_at": _moment(one.recorded_at),
                    }
                    for one in run.jobs[name].attempts
                ],
            }
            for name in run.plan.jobs
        },
    }


def _workflow_seen(state: WorkflowState) -> Any:
    return {
        "name": state.name,
        "versions": [[version.number, version.document] for version in state.versions],
        "live": state.live.number if state.live else None,
        "paused_by": state.pause.by if state.pause else None,
        "watermark": _moment(state.watermark),
        "next_at": _moment(state.next_at),
        "holders": {run: _moment(state.holders[run].admitted_at) for run in sorted(state.holders)},
        "held": [one.run for one in state.held],
        "previous_success_at": _moment(state.previous_success_at),
    }


def _moment(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None


def make(name: str) -> Path:
    plans, history = STORIES[name]()
    documents = [
        {"digest": plan.digest, "document": plan.workflow.model_dump(mode="json", exclude_defaults=True)}
        for plan in plans
    ]
    commits = [{"at": at.isoformat(), "events": json.loads(codec.body_of(events))} for at, events in history]
    changes = changes_of(states_of(kind_of(name), {"documents": documents, "commits": commits}))
    return _write(name, {"documents": documents, "commits": commits, "states": changes})


def kind_of(name: str) -> str:
    """Of a golden file: `run`, `workflow`, `calendar`, `document`, `backfill` or `snapshots`."""
    """Of a golden file: `run`, `workflow`, `document`, `backfill`, `pool`, `notices` or `snapshots`."""
    return name.partition("-")[0]


def make_snapshots() -> Path:
    """Snapshots of the golden runs by the fold of today: of each stream's end, and wherever a phase is met for the first time."""
    kept = []
    met: set[str] = set()
    for path in sorted(HERE.glob("run-*.json")):
        states = states_of("run", json.loads(path.read_text(encoding="utf-8")))
        for version, state in enumerate(states, 1):
            assert isinstance(state, Run)
            phases = {type(one.phase).__name__ for one in state.jobs.values()}
            if version == len(states) or phases - met:
                kept.append({"stream": path.stem, "version": version, **_opened(dump(state))})
            met |= phases
    return _write(f"snapshots-of-fold-{FOLD_VERSION}", {"fold_version": FOLD_VERSION, "snapshots": kept})


def _opened(body: bytes) -> dict[str, str]:
    """A snapshot in parts that a person can read: its checksum, and the text that it is of."""
    return {"checksum": body[:CHECKSUM_LENGTH].hex(), "text": body[CHECKSUM_LENGTH:].decode()}


CHECKSUM_LENGTH = 32


def snapshot_body(kept: Mapping[str, str]) -> bytes:
    return bytes.fromhex(kept["checksum"]) + kept["text"].encode()


def _write(name: str, golden: Mapping[str, Any]) -> Path:
    """One line for each document, commit, state and snapshot: what somebody compares when a golden file fails."""
    parts = []
    for key, value in golden.items():
        lines = [json.dumps(one, ensure_ascii=False) for one in value] if isinstance(value, list) else []
        text = "[\n  " + ",\n  ".join(lines) + "\n ]" if lines else json.dumps(value)
        parts.append(f" {json.dumps(key)}: {text}")
    path = HERE / f"{name}.json"
    with path.open("x", encoding="utf-8") as file:
        file.write("{\n" + ",\n".join(parts) + "\n}\n")
    return path


def main() -> None:
    for name in STORIES:
        if not (HERE / f"{name}.json").exists():
            print(make(name))
    if not (HERE / f"snapshots-of-fold-{FOLD_VERSION}.json").exists():
        print(make_snapshots())


if __name__ == "__main__":
    main()
