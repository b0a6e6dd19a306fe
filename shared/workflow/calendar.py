"""A calendar: days under a name that many schedules share, a document of its own beside workflows.

Whatever the bytes are, the answer is a Calendar, an InvalidInput with every problem at once, or None for what is no calendar: a
document is one when its top level says `calendar`.
"""

import json
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from shared.errors import InvalidInput, Problem
from shared.ids import is_name
from shared.workflow.days import DAYS_MAX, CalendarName, Day
from shared.workflow.graph import NAME_RULE
from shared.workflow.nearest import Nearest, listed, shown
from shared.workflow.syntax import PROBLEMS_MAX, bounded, parse, path_of
from shared.workflow.timing import read_timezone

EXAMPLE = '{"calendar": "bank-holidays", "days": ["2026-12-25", "01-01"]}'


def _read_timezone(value: object) -> object:
    return None if value is None else read_timezone(value)


class Calendar(BaseModel):
    """Days under a name; schedules exclude them with `"exclude": {"calendars": [NAME]}`."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    calendar: CalendarName
    """Its name, unique among calendars."""
    description: Annotated[str, StringConstraints(max_length=1_000)] = ""
    """For people."""
    timezone: Annotated[str | None, BeforeValidator(_read_timezone)] = None
    """The zone in which its days begin and end; absent means that of each schedule that names it."""
    days: tuple[Day, ...] = Field(max_length=DAYS_MAX)
    """As in a schedule's `exclude`. An empty list excludes nothing: that is how a calendar is retired."""


def read_calendar(data: bytes, *, name: str) -> Calendar | None:
    """The calendar in a JSON or YAML text; None when it is another kind of document. InvalidInput with every problem."""
    if b"calendar" not in data:
        # Reading a large workflow twice would cost as much as checking it.
        return None
    raw = parse(data, name=name)
    if "calendar" not in raw:
        return None
    try:
        calendar = Calendar.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        problems = [_problem(one) for one in error.errors(include_url=False)[: PROBLEMS_MAX + 1]]
        raise InvalidInput(bounded(problems, error.error_count())) from None
    if not is_name(calendar.calendar):
        raise InvalidInput([Problem("calendar", f"`{shown(calendar.calendar)}` is not a name", NAME_RULE)])
    return calendar


def canonical_calendar(calendar: Calendar) -> bytes:
    """JSON as `read_calendar` reads it."""
    return json.dumps(calendar.model_dump(mode="json", exclude_none=True), ensure_ascii=False).encode()


def _problem(error: Any) -> Problem:
    path = path_of(error["loc"])
    match error["type"]:
        case "extra_forbidden":
            fields = list(Calendar.model_fields)
            near = Nearest().to(str(error["loc"][-1]), fields)
            hint = f"did you mean `{near}`?" if near else f"it has {listed(fields)}"
            return Problem(path, f"`{shown(str(error['loc'][-1]))}` is not a field of a calendar", hint)
        case "missing":
            return Problem(path, "is missing", f"a calendar looks like {EXAMPLE}")
        case "string_pattern_mismatch" | "string_too_long" if path == "calendar":
            return Problem(path, f"`{shown(str(error['input']))}` is not a name", NAME_RULE)
        case "too_long" | "string_too_long":
            what = "entries" if error["type"] == "too_long" else "characters"
            return Problem(path, f"has more than {error['ctx']['max_length']:,} {what}")
        case "tuple_type":
            return Problem(path, "must be a list", "write a list of days, which may be empty")
        case "string_type":
            return Problem(path, "must be text")
    return Problem(path, str(error["msg"]))
