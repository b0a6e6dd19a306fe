"""The filters and tests that templates may use, and no others.

Each filter is total: on values it is not made for it raises `Unusable`, and it first charges what it will look at
and bounds what it will make. Quoting for a shell is left out on purpose: values reach commands as arguments.
"""

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from shared.template.bounds import INTEGER_BITS_MAX, RENDERED_LENGTH_MAX
from shared.template.values import (
    ITEM_WORK,
    LazyList,
    Missing,
    Unusable,
    Work,
    as_text,
    is_number,
    iso,
    json_text,
    kind,
    spend_on,
)

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo


class WrongArgument(Unusable):
    """An argument that can never be right, known before anything is rendered."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Filter:
    function: Callable[..., object]
    """Takes the work left, the value, and one argument for each parameter, None for those left out."""
    parameters: tuple[str, ...] = ()
    required: int = 0
    """How many arguments must be given, whichever they are."""
    by_name_only: bool = False
    usage: str = ""
    inspect: Callable[[object], object] | None = None
    """Raises `WrongArgument` for a constant argument that is wrong."""

    @property
    def required_in_order(self) -> int:
        return 0 if self.by_name_only else self.required


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise Unusable(f"{what} needs a text, not {kind(value)}")
    return value


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list | tuple | LazyList):
        raise Unusable(f"{what} needs a list, not {kind(value)}")
    return list(value)


def _mapping(value: object, what: str) -> Mapping[object, object]:
    if not isinstance(value, Mapping):
        raise Unusable(f"{what} needs a mapping, not {kind(value)}")
    return value


# Times

_ISO_LENGTH_MAX = 40


def _time(value: object, what: str) -> datetime:
    if isinstance(value, str) and len(value) <= _ISO_LENGTH_MAX:
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise Unusable(f"{what} needs a time; the text is not one in ISO-8601") from None
        # Only texts may be naive: a day such as 2026-03-01 is one in UTC.
        value = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise Unusable(f"{what} needs a time, not {kind(value)}")
    return value


_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]
)  # fmt: skip


def _offset(at: datetime, separator: str) -> str:
    seconds = round((at.utcoffset() or timedelta()).total_seconds())
    hours, rest = divmod(abs(seconds), 3600)
    return f"{'-' if seconds < 0 else '+'}{hours:02}{separator}{rest // 60:02}"


# Our own, since strftime answers in the machine's locale and pads differently on each platform, while a job
# that is sent again must be sent the same.
_DIRECTIVES: dict[str, Callable[[datetime], str]] = {
    "%Y": lambda at: f"{at.year:04}",
    "%y": lambda at: f"{at.year % 100:02}",
    "%m": lambda at: f"{at.month:02}",
    "%d": lambda at: f"{at.day:02}",
    "%H": lambda at: f"{at.hour:02}",
    "%I": lambda at: f"{(at.hour - 1) % 12 + 1:02}",
    "%p": lambda at: "AM" if at.hour < 12 else "PM",
    "%M": lambda at: f"{at.minute:02}",
    "%S": lambda at: f"{at.second:02}",
    "%f": lambda at: f"{at.microsecond:06}",
    "%j": lambda at: f"{at.timetuple().tm_yday:03}",
    "%a": lambda at: _DAYS[at.weekday()][:3],
    "%A": lambda at: _DAYS[at.weekday()],
    "%b": lambda at: _MONTHS[at.month - 1][:3],
    "%B": lambda at: _MONTHS[at.month - 1],
    "%u": lambda at: str(at.isoweekday()),
    "%w": lambda at: str(at.isoweekday() % 7),
    "%G": lambda at: f"{at.isocalendar().year:04}",
    "%V": lambda at: f"{at.isocalendar().week:02}",
    "%z": lambda at: _offset(at, ""),
    "%:z": lambda at: _offset(at, ":"),
    "%Z": lambda at: at.tzname() or "",
    "%F": lambda at: f"{at.year:04}-{at.month:02}-{at.day:02}",
    "%T": lambda at: f"{at.hour:02}:{at.minute:02}:{at.second:02}",
    "%%": lambda _: "%",
}
_DIRECTIVE = re.compile(r"%:?.?", re.DOTALL)


@lru_cache(maxsize=64)
def _check_format(pattern: object) -> str:
    if not isinstance(pattern, str):
        raise WrongArgument(f"date needs its format as a text, not {kind(pattern)}", "date('%Y-%m-%d')")
    for directive in _DIRECTIVE.findall(pattern):
        if directive not in _DIRECTIVES:
            raise WrongArgument(
                f"date does not know {directive}",
                "for seconds since 1970 use | epoch" if directive == "%s" else f"known are {' '.join(_DIRECTIVES)}",
            )
    return pattern


def _date(work: Work, value: object, pattern: object) -> str:
    at = _time(value, "date")
    if isinstance(pattern, str):
        work.spend(8 * len(pattern))
    return _DIRECTIVE.sub(lambda found: _DIRECTIVES[found[0]](at), _check_format(pattern))


_PLUS = ("weeks", "days", "hours", "minutes", "seconds")


def _plus(_: Work, value: object, *amounts: object) -> datetime:
    at = _time(value, "plus")
    numbers: list[int | float] = []
    for amount in amounts:
        if amount is not None and (not isinstance(amount, int | float) or isinstance(amount, bool)):
            raise Unusable(f"plus needs numbers, not {kind(amount)}")
        numbers.append(0 if amount is None else amount)
    weeks, days, hours, minutes, seconds = numbers
    try:
        # Days are days of the calendar: the same hour tomorrow, also when the clocks change. Hours are real time.
        moved = (at + timedelta(weeks=weeks, days=days)).astimezone(UTC)
        return (moved + timedelta(hours=hours, minutes=minutes, seconds=seconds)).astimezone(at.tzinfo)
    except (OverflowError, ValueError):
        raise Unusable("plus leaves the calendar (years 1 to 9999)") from None


_ZONE_LENGTH_MAX = 64


def _zone(name: object) -> "ZoneInfo":
    from zoneinfo import ZoneInfo

    if not isinstance(name, str):
        raise WrongArgument(f"in_zone needs the name of a time zone, not {kind(name)}", "in_zone('Europe/Berlin')")
    try:
        if len(name) > _ZONE_LENGTH_MAX:
            raise ValueError(name)
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # The name is shown: it stands in the template, or in a parameter that was meant to be one.
        raise WrongArgument(
            f"{name[:_ZONE_LENGTH_MAX]!r} is not a time zone", "an IANA name such as 'Europe/Berlin' or 'UTC'"
        ) from None


def _in_zone(_: Work, value: object, name: object) -> datetime:
    try:
        return _time(value, "in_zone").astimezone(_zone(name))
    except OverflowError:
        raise Unusable("in_zone leaves the calendar (years 1 to 9999)") from None


def _iso(_: Work, value: object) -> str:
    return iso(_time(value, "iso"))


def _epoch(_: Work, value: object) -> int:
    return (_time(value, "epoch") - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)


# Texts


def _replace(work: Work, value: object, old: object, new: object) -> str:
    text, old, new = _text(value, "replace"), _text(old, "replace"), _text(new, "replace")
    work.spend(len(text) + len(old) + len(new))
    # Counted first: a text of empty places filled with a long one would not fit into memory.
    if len(text) + text.count(old) * (len(new) - len(old)) > RENDERED_LENGTH_MAX:
        raise Unusable(f"replace makes a text longer than {RENDERED_LENGTH_MAX} characters")
    return text.replace(old, new)


def _join(work: Work, value: object, separator: object) -> str:
    between = "" if separator is None else _text(separator, "join")
    items = _list(value, "join")
    length = len(between) * max(0, len(items) - 1)
    texts: list[str] = []
    for item in items:
        text = as_text(item, work)
        length += len(text)
        if length > RENDERED_LENGTH_MAX:
            raise Unusable(f"join makes a text longer than {RENDERED_LENGTH_MAX} characters")
        texts.append(text)
    work.spend(length)
    return between.join(texts)


def _split(work: Work, value: object, separator: object) -> list[str]:
    text = _text(value, "split")
    work.spend(4 * len(text))
    if separator is None:
        return text.split()
    if not _text(separator, "split"):
        raise Unusable("split needs a separator that is not empty")
    return text.split(_text(separator, "split"))


def _on_text(name: str, function: Callable[[str], str]) -> Filter:
    def apply(work: Work, value: object) -> str:
        text = _text(value, name)
        work.spend(len(text))
        return function(text)

    return Filter(apply)


# Numbers

_INTEGER = re.compile(r"\s*[-+]?[0-9]+\s*\Z")
_DECIMAL = re.compile(r"\s*[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?\s*\Z")
_DIGITS_MAX = INTEGER_BITS_MAX // 3


def _int(_: Work, value: object) -> int:
    if isinstance(value, str) and len(value) <= _DIGITS_MAX and _INTEGER.match(value):
        return int(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value)
    raise Unusable(
        "int needs a number or the text of an integer" + ("" if isinstance(value, str) else f", not {kind(value)}")
    )


def _float(_: Work, value: object) -> float:
    try:
        if isinstance(value, str) and len(value) <= _DIGITS_MAX and _DECIMAL.match(value):
            return float(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    except OverflowError:
        raise Unusable("a number becomes too large") from None
    raise Unusable(
        "float needs a number or the text of one" + ("" if isinstance(value, str) else f", not {kind(value)}")
    )


_ROUND_DIGITS_MAX = 15


def _round(_: Work, value: object, digits: object) -> int | float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Unusable(f"round needs a number, not {kind(value)}")
    if digits is None:
        return round(value)
    if not isinstance(digits, int) or isinstance(digits, bool) or not 0 <= digits <= _ROUND_DIGITS_MAX:
        raise Unusable(f"round takes a number of digits from 0 to {_ROUND_DIGITS_MAX}")
    return round(value, digits)


# Lists and mappings


def _length(_: Work, value: object) -> int:
    if isinstance(value, str | list | tuple | LazyList | Mapping):
        return len(value)
    raise Unusable(f"length needs a text, list or mapping, not {kind(value)}")


def _first(_: Work, value: object) -> object:
    items = _list(value, "first")
    if not items:
        raise Missing("first finds nothing: the list is empty")
    return items[0]


def _last(_: Work, value: object) -> object:
    items = _list(value, "last")
    if not items:
        raise Missing("last finds nothing: the list is empty")
    return items[-1]


def _ordered(items: list[object], work: Work, what: str) -> list[object]:
    """The items sorted; all must be numbers, all texts, or all times."""
    work.spend(2 * ITEM_WORK * len(items))
    if all(is_number(item) for item in items):
        return sorted(items)  # type: ignore[type-var]
    if all(isinstance(item, str) for item in items):
        return sorted(items)  # type: ignore[type-var]
    if all(isinstance(item, datetime) and item.tzinfo is not None for item in items):
        return sorted(items)  # type: ignore[type-var]
    raise Unusable(f"{what} needs a list of numbers, of texts or of times")


def _sort(work: Work, value: object, reverse: object) -> list[object]:
    spend_on(value, work)
    items = _ordered(_list(value, "sort"), work, "sort")
    return items[::-1] if reverse is True else items


def _extreme(name: str, place: int) -> Filter:
    def apply(work: Work, value: object) -> object:
        spend_on(value, work)
        items = _ordered(_list(value, name), work, name)
        if not items:
            raise Missing(f"{name} finds nothing: the list is empty")
        return items[place]

    return Filter(apply)


def _sum(work: Work, value: object) -> int | float:
    items = _list(value, "sum")
    work.spend(ITEM_WORK * len(items))
    total: int | float = 0
    for item in items:
        if not isinstance(item, int | float) or isinstance(item, bool):
            raise Unusable(f"sum needs a list of numbers; one item is {kind(item)}")
        try:
            total += item
        except OverflowError:
            raise Unusable("a number becomes too large") from None
    return total


def _unique(work: Work, value: object) -> list[object]:
    found: dict[str, object] = {}
    for item in _list(value, "unique"):
        work.spend(5 * ITEM_WORK)
        found.setdefault(json_text(item, work), item)
    return list(found.values())


def _sorted_keys(value: object, work: Work, what: str) -> list[str]:
    mapping = _mapping(value, what)
    work.spend(2 * len(mapping))
    # Sorted, because persistent maps come in another order in each process.
    return sorted(key for key in mapping if isinstance(key, str))


def _keys(work: Work, value: object) -> list[str]:
    return _sorted_keys(value, work, "keys")


def _values(work: Work, value: object) -> list[object]:
    mapping = _mapping(value, "values")
    return [mapping[key] for key in _sorted_keys(value, work, "values")]


def _default(_: Work, value: object, instead: object) -> object:
    return instead if value is None else value


FILTERS: dict[str, Filter] = {
    "date": Filter(_date, ("format",), required=1, usage="date('%Y-%m-%d')", inspect=_check_format),
    "plus": Filter(_plus, _PLUS, required=1, by_name_only=True, usage="plus(days=1) or plus(hours=-2, minutes=30)"),
    "in_zone": Filter(_in_zone, ("zone",), required=1, usage="in_zone('Europe/Berlin')", inspect=_zone),
    "iso": Filter(_iso),
    "epoch": Filter(_epoch),
    "json": Filter(lambda work, value: json_text(value, work)),
    "default": Filter(_default, ("value",), required=1, usage="default('…')"),
    "lower": _on_text("lower", str.lower),
    "upper": _on_text("upper", str.upper),
    "trim": _on_text("trim", str.strip),
    "basename": _on_text("basename", posixpath.basename),
    "dirname": _on_text("dirname", posixpath.dirname),
    "replace": Filter(_replace, ("old", "new"), required=2, usage="replace('old', 'new')"),
    "join": Filter(_join, ("separator",), usage="join(', ')"),
    "split": Filter(_split, ("separator",), usage="split(',')"),
    "length": Filter(_length),
    "first": Filter(_first),
    "last": Filter(_last),
    "int": Filter(_int),
    "float": Filter(_float),
    "string": Filter(lambda work, value: as_text(value, work)),
    "round": Filter(_round, ("digits",), usage="round or round(2)"),
    "min": _extreme("min", 0),
    "max": _extreme("max", -1),
    "sum": Filter(_sum),
    "sort": Filter(_sort, ("reverse",), usage="sort or sort(reverse=true)"),
    "unique": Filter(_unique),
    "keys": Filter(_keys),
    "values": Filter(_values),
}

TESTS: dict[str, Callable[[object], bool]] = {
    # The first three are answered where names are looked up and members searched, and only listed here.
    "defined": lambda _: True,
    "undefined": lambda _: False,
    "in": lambda _: False,
    "none": lambda value: value is None,
    "string": lambda value: isinstance(value, str),
    "number": is_number,
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, float),
    "boolean": lambda value: isinstance(value, bool),
    "true": lambda value: value is True,
    "false": lambda value: value is False,
    "mapping": lambda value: isinstance(value, Mapping),
    "sequence": lambda value: isinstance(value, list | tuple | LazyList),
    "even": lambda value: _parity(value, "even") == 0,
    "odd": lambda value: _parity(value, "odd") == 1,
}


def _parity(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unusable(f"the test {what} needs an integer, not {kind(value)}")
    return value % 2
