"""Time in a play: schedules with days off, calendars that people change while schedules follow them, jitter, turns, and a bound of lateness.

What must hold beside what `runfold verify` checks (each instant is one of run, skip and miss; turns are kept): an instant that was excluded is
never a run as well, and a calendar that is named as the reason had that day in that version.
"""

import json
import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from shared.codec import events_in
from shared.events import CalendarRegistered, InstantsExcluded
from shared.ids import WorkflowName, calendar_stream, run_stream, scheduled_run, subject_of
from shared.workflow.days import day_set
from tests.simulation.deployment import Deployment
from tests.simulation.kernel import BEGIN, Kernel
from tests.simulation.stores import Tables
from tests.simulation.workload import Workload

SHARE = 0.4
"""Of plays whose schedules have days off."""
CALENDAR = "days-off"
AGAIN_SECONDS = (300, 1_500)
"""A workflow that came before the calendar that it names was refused, and is uploaded again."""


class OddDays:
    """Its own randomness, so that plays without days off are as they would be without this."""

    def __init__(self, kernel: Kernel, workload: Workload, seed: int) -> None:
        self._random = rng = random.Random(f"odd days of {seed}")
        self._kernel = kernel
        self._workload = workload
        self.there = rng.random() < SHARE
        if self.there:
            for document in workload.documents.values():
                if "schedule" in document:
                    document["schedule"] |= self._rules(document.get("overlap", "allow"))

    def _rules(self, overlap: str) -> dict[str, Any]:
        rng = self._random
        rules: dict[str, Any] = {
            "exclude": {"days": self._days(), "calendars": [CALENDAR] if rng.random() < 0.7 else []}
        }
        if rng.random() < 0.4:
            rules["jitter_seconds"] = rng.choice((30, 600))
        if rng.random() < 0.4:
            rules["misfire_minutes"] = rng.choice((10, 90))
        if rng.random() < 0.6 and overlap in ("allow", "queue"):
            rules |= {"starts_per_minute": rng.choice((1, 3)), "catchup": "all"}
        return rules

    def _days(self) -> list[str]:
        """None, or some of the days that a play has; hardly ever all of them."""
        rng = self._random
        days = [f"{BEGIN + timedelta(days=number):%Y-%m-%d}" for number in range(4)]
        return rng.sample([days[1], days[2], "tuesday", f"{days[2]}/{days[3]}", days[0]], rng.choice((0, 1, 1, 2)))

    def begin(self, deployment: Deployment, hours: float) -> None:
        if not self.there:
            return
        rng = self._random
        self.upload(deployment)
        for seconds in AGAIN_SECONDS:
            self._kernel.after(seconds, lambda: self._workload.upload(deployment))
        for _ in range(rng.randint(0, 3)):
            self._kernel.after(rng.uniform(60, hours * 3600), lambda: self.upload(deployment))

    def upload(self, deployment: Deployment) -> None:
        if self.there:
            text = {"calendar": CALENDAR, "days": self._days()}
            deployment.upload(f"workflows/{CALENDAR}.json", json.dumps(text).encode())


def untrue_of_odd_days(tables: Tables, *, restored: bool) -> Iterator[str]:
    versions = {
        event.version: event.days
        for record in tables.events.read(calendar_stream(CALENDAR))
        for event in events_in(record.body)
        if isinstance(event, CalendarRegistered)
    }
    for stream in tables.events.streams("workflow"):
        workflow = WorkflowName(subject_of(stream))
        for record in tables.events.read(stream):
            for event in events_in(record.body):
                if not isinstance(event, InstantsExcluded):
                    continue
                for instant in (event.first_at, event.last_at):
                    begun = tables.events.read(run_stream(scheduled_run(workflow, instant)), limit=1)
                    # A backfill may come to it once its calendar has changed.
                    if any(
                        getattr(one, "trigger", "") == "schedule" for record in begun for one in events_in(record.body)
                    ):
                        yield f"{workflow} excluded {instant}, and it is a run"
                # A restore may take versions away, and give their numbers to others.
                if event.calendar_version and not restored:
                    days = versions.get(event.calendar_version)
                    if days is None or not day_set(days).holds(event.day):
                        yield f"{workflow} says that version {event.calendar_version} has {event.day}, and it has {days}"
