"""Bells in EventBridge Scheduler: one schedule for each workflow that has one, made from the document and never patched.

A bell only makes the scheduler look sooner than its sweep would. So a schedule that EventBridge cannot express exactly (a day that may
match either of two fields, a rate from an anchor in the past) has none, and the sweep of every minute suffices.
"""

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from shared.ids import WorkflowName
from shared.stores.aws import code_of, translated
from shared.workflow.cron import parse_cron
from shared.workflow.timing import Schedule

if TYPE_CHECKING:
    from mypy_boto3_scheduler import EventBridgeSchedulerClient

NAME_LENGTH_MAX = 64
"""Of a schedule's name, which may hold letters, digits, `-`, `_` and `.`."""
RETRY_SECONDS = 3600
"""A ring that cannot be delivered for an hour is worth nothing any more: the sweep has long done its work."""


@dataclass(frozen=True, slots=True)
class Bell:
    """A schedule in EventBridge's words."""

    expression: str
    timezone: str


def bell_of(schedule: Schedule) -> Bell | None:
    """The bell that rings at this schedule's instants, and only then; None where EventBridge has no words for them."""
    if schedule.at is not None:
        local = schedule.at.astimezone(schedule.zone) if schedule.at.tzinfo else schedule.at
        return Bell(f"at({local:%Y-%m-%dT%H:%M:%S})", schedule.timezone)
    if schedule.cron is None:
        return None
    expression = _expression(schedule.cron)
    return None if expression is None else Bell(f"cron({expression})", schedule.timezone)


def _expression(text: str) -> str | None:
    bare = text.strip().removeprefix("cron(").removesuffix(")").strip()
    if len(bare.split()) == 6:
        return bare
    cron = parse_cron(text)
    if cron.any_day_field or cron.nth_weekdays or cron.last_weekdays or cron.nearest_workdays or cron.last_workday:
        return None
    if cron.days_before_last or cron.years is not None:
        return None
    minutes = sorted({second // 60 % 60 for second in cron.seconds_of_day})
    hours = sorted({second // 3600 for second in cron.seconds_of_day})
    every_day, every_weekday = len(cron.days) == 31, len(cron.weekdays) == 7
    if not every_day and not every_weekday:
        return None
    # EventBridge counts weekdays from Sunday = 1, and wants exactly one of the two day fields to be `?`.
    days = "?" if not every_weekday else _listed(sorted(cron.days), 31)
    weekdays = "?" if every_weekday else _listed([day + 1 for day in sorted(cron.weekdays)], 7)
    return f"{_listed(minutes, 60)} {_listed(hours, 24)} {days} {_listed(sorted(cron.months), 12)} {weekdays} *"


def _listed(values: list[int], all_of_them: int) -> str:
    return "*" if len(values) == all_of_them else ",".join(str(value) for value in values)


class SchedulerBells:
    """`target`, `role` and `dead_letters` are ARNs: the scheduler function, what may call it, where undelivered rings go."""

    def __init__(
        self,
        client: "EventBridgeSchedulerClient",
        *,
        group: str,
        target: str,
        role: str,
        dead_letters: str = "",
    ) -> None:
        self._client = client
        self._group = group
        self._target = target
        self._role = role
        self._dead_letters = dead_letters

    def reconcile(self, workflow: WorkflowName, schedule: Schedule | None) -> None:
        """Make the workflow's bell the one its document says, or none. `StoreUnavailable` when AWS does not answer.

        Everything is set each time: an update replaces all fields, those left out are reset.
        """
        bell = bell_of(schedule) if schedule is not None else None
        name = schedule_name(workflow)
        if bell is None:
            self._delete(name)
            return
        with translated(f"look up the schedule of {workflow}"):
            try:
                there = self._client.get_schedule(GroupName=self._group, Name=name)
            except ClientError as error:
                if code_of(error) != "ResourceNotFoundException":
                    raise
                self._create(name, workflow, bell)
                return
        same = (
            there["ScheduleExpression"] == bell.expression
            and there.get("ScheduleExpressionTimezone") == bell.timezone
            and there["Target"]["Arn"] == self._target
        )
        if not same:
            # Replacing by delete and create would leave a moment without a bell; the sweep would fill it, but why.
            with translated(f"set the schedule of {workflow}"):
                self._client.update_schedule(**self._request(name, workflow, bell))  # type: ignore[arg-type]

    def _create(self, name: str, workflow: WorkflowName, bell: Bell) -> None:
        with translated(f"make the schedule of {workflow}"):
            try:
                self._client.create_schedule(**self._request(name, workflow, bell))  # type: ignore[arg-type]
            except ClientError as error:
                # Another relay made it a moment ago, from the same document or an older one; the next look sets it right.
                if code_of(error) != "ConflictException":
                    raise
                self._client.update_schedule(**self._request(name, workflow, bell))  # type: ignore[arg-type]

    def _delete(self, name: str) -> None:
        with translated(f"delete the schedule {name}"):
            try:
                self._client.delete_schedule(GroupName=self._group, Name=name)
            except ClientError as error:
                if code_of(error) != "ResourceNotFoundException":
                    raise

    def _request(self, name: str, workflow: WorkflowName, bell: Bell) -> dict[str, object]:
        target: dict[str, object] = {
            "Arn": self._target,
            "RoleArn": self._role,
            "Input": json.dumps({"workflow": workflow, "scheduled_at": "<aws.scheduler.scheduled-time>"}),
            "RetryPolicy": {"MaximumEventAgeInSeconds": RETRY_SECONDS, "MaximumRetryAttempts": 10},
        }
        if self._dead_letters:
            target["DeadLetterConfig"] = {"Arn": self._dead_letters}
        return {
            "GroupName": self._group,
            "Name": name,
            "ScheduleExpression": bell.expression,
            "ScheduleExpressionTimezone": bell.timezone,
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "Target": target,
            "State": "ENABLED",
        }


def schedule_name(workflow: WorkflowName) -> str:
    """Deterministic, and distinct also for names that differ only in case, as long as EventBridge allows."""
    digest = sha256(workflow.encode()).hexdigest()[:8]
    return f"{workflow[: NAME_LENGTH_MAX - 9]}-{digest}"
