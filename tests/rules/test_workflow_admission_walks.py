"""I6 as a property: each instant of each schedule becomes exactly one of run, skip and miss, whatever happens and whenever anybody looks."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import given as examples
from hypothesis import strategies as st

from shared import schedule
from shared.decide.commands import AdmitRun, PauseWorkflow, ResumeWorkflow, Tick, UnregisterWorkflow
from shared.decide.workflow import limit_of
from shared.effects import TickWorkflow, pending_of_workflow
from shared.errors import NotFound, Rejected
from shared.events import (
    InstantSkipped,
    InstantsMissed,
    RunAdmitted,
    RunHeld,
    WatermarkMoved,
    WorkflowRegistered,
    WorkflowUnregistered,
)
from shared.ids import RunId
from shared.workflow.plan import Plan
from shared.workflow.timing import Schedule
from tests.rules.sentences import (
    Story,
    document,
    ended,
    given_workflow,
    hours,
    job,
    minutes,
    plans,
    register,
    request_of,
    seconds,
)

PROFILE = settings(
    max_examples=120, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
LONG_PROFILE = settings(PROFILE, max_examples=1_000)

RULES: list[dict[str, Any]] = [
    {"cron": "* * * * *"},
    {"cron": "*/7 * * * *", "timezone": "Europe/Berlin"},
    {"cron": "30 2 * * *", "timezone": "Europe/Berlin"},
    {"rate": "7 minutes"},
    {"interval": {"every": "50 minutes", "anchor": "2026-03-01T00:00:10Z"}},
]


@st.composite
def documents(draw: st.DrawFn) -> Plan:
    rule = dict(draw(st.sampled_from(RULES)))
    rule["catchup"] = draw(st.sampled_from(["none", "latest", "all"]))
    rule["catchup_max"] = draw(st.sampled_from([3, 40, 150]))
    fields: dict[str, Any] = {"schedule": rule} if draw(st.integers(0, 9)) else {}
    fields["overlap"] = draw(st.sampled_from(["allow", "skip", "queue", "cancel_running"]))
    if draw(st.booleans()):
        fields["max_active_runs"] = draw(st.integers(1, 3))
    return document(job("load"), owner=draw(st.sampled_from(["a", "b"])), **fields)


steps = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2**16)), max_size=40)
WAITS = [seconds(0), seconds(20), seconds(59.5), minutes(4), minutes(17), hours(3), hours(26)]


def walk(documents_: list[Plan], taken: list[tuple[int, int]], start: datetime) -> Story:
    story = given_workflow(register(documents_[0]), now=start)
    for number, (kind, pick) in enumerate(taken):
        match kind:
            case 0 | 1 | 2:
                story = story.given(WAITS[pick % len(WAITS)])
            case 3 | 4 | 5:
                story = _asked(story, Tick())
            case 6:
                story = _asked(story, PauseWorkflow("ada"))
            case 7:
                story = _asked(story, ResumeWorkflow("ada"))
            case 8 | 9 if len(story.workflow.holders):
                runs = sorted(story.workflow.holders)
                story = _asked(story, ended(runs[pick % len(runs)], ("succeeded", "failed")[pick % 2]))
            case 10:
                story = _asked(story, register(documents_[pick % len(documents_)]))
            case 11 if pick % 3 == 0:
                story = _asked(story, UnregisterWorkflow("ada"))
            case _:
                story = _asked(story, AdmitRun(request_of(documents_[0], RunId(f"nightly@by-hand-{number}"))))
    return story


def _asked(story: Story, command: Any) -> Story:
    try:
        after, decided = story.done(command)
    except (Rejected, NotFound):
        return story
    if not after.truncated:
        again = after.done(command)[1]
        assert not again, f"{command} decides {again} the second time"
    state = after.workflow
    if isinstance(command, Tick) and not decided:
        ticks = [one for one in pending_of_workflow(state, after.now) if isinstance(one, TickWorkflow)]
        assert not ticks, "a tick that changes nothing must not ask for the next one"
    if state.live is not None and state.watermark is not None and state.next_at is not None:
        rule = plans(state.live.document).workflow.schedule
        assert rule is not None
        assert [state.next_at] == [one.at for one in schedule.upcoming(rule, state.watermark, 1)]
    return after


def instants_are_accounted_for(story: Story) -> None:
    """Go through the history; between two watermarks of one schedule, each instant is dealt with once."""
    rule: Schedule | None = None
    watermark: datetime | None = None
    dealt: Counter[datetime] = Counter()
    runs: set[str] = set()
    for at, commit in story.history:
        for event in commit:
            match event:
                case WorkflowRegistered():
                    new = plans(event.document).workflow.schedule
                    if new != rule:
                        _nothing_is_left(rule, watermark, at, dealt)
                        rule, watermark = new, None
                case WorkflowUnregistered():
                    _nothing_is_left(rule, watermark, at, dealt)
                    rule, watermark = None, None
                case RunAdmitted() | RunHeld() if event.request.trigger == "schedule" and event.run not in runs:
                    runs.add(event.run)
                    assert event.request.scheduled_at is not None
                    dealt[event.request.scheduled_at] += 1
                case InstantSkipped():
                    dealt[event.scheduled_at] += 1
                case InstantsMissed():
                    assert rule is not None
                    missed = schedule.due(rule, event.first_at - seconds(1), event.last_at)
                    assert len(missed) == event.count
                    dealt.update(one.at for one in missed)
                case WatermarkMoved() if watermark is None or rule is None:
                    watermark = event.until
                case WatermarkMoved():
                    assert rule is not None and watermark is not None  # noqa: PT018
                    expected = Counter(one.at for one in schedule.due(rule, watermark, event.until))
                    assert dealt == expected
                    dealt, watermark = Counter(), event.until
                case _:
                    pass


def _nothing_is_left(rule: Schedule | None, watermark: datetime | None, at: datetime, dealt: Counter[datetime]) -> None:
    assert not dealt, "nothing is dealt with that the watermark does not tell of"
    if rule is not None and watermark is not None:
        assert not schedule.due(rule, watermark, at, limit=1), "a schedule ends with all its instants dealt with"


def check(documents_: list[Plan], taken: list[tuple[int, int]], days: int) -> None:
    start = datetime.fromisoformat("2026-03-28T12:00:00+00:00") + timedelta(days=days % 3, seconds=days % 61)
    story = walk(documents_, taken, start)
    instants_are_accounted_for(story)
    for _ in range(3):
        # However it ended, it comes to rest: nothing due stays undealt with once somebody looks often enough.
        story = _asked(story, ResumeWorkflow("ada"))
        for _ in range(20):
            if not any(isinstance(one, TickWorkflow) for one in pending_of_workflow(story.workflow, story.now)):
                break
            story = _asked(story, Tick())
        state = story.workflow
        assert state.next_at is None or state.next_at > story.now
        if state.live is not None and state.held:
            limit = limit_of(plans(state.live.document).workflow)
            assert limit is not None
            assert len(state.holders) >= limit, "nobody waits while there is room"
        story = story.given(minutes(61))
    instants_are_accounted_for(story)


@PROFILE
@examples(st.lists(documents(), min_size=1, max_size=3), steps, st.integers(0, 200))
def test_each_instant_becomes_exactly_one_of_run_skip_and_miss(
    documents_: list[Plan], taken: list[tuple[int, int]], days: int
) -> None:
    """I6."""
    check(documents_, taken, days)


@pytest.mark.slow
@LONG_PROFILE
@examples(st.lists(documents(), min_size=1, max_size=3), steps, st.integers(0, 200))
def test_each_instant_becomes_exactly_one_of_run_skip_and_miss_for_longer(
    documents_: list[Plan], taken: list[tuple[int, int]], days: int
) -> None:
    check(documents_, taken, days)
