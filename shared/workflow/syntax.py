"""Text to plain values: JSON and YAML, read so that no text can crash, hang or mean two things.

What it promises: a text is refused with the place and the reason when it is too large, nested too deep, grows too much by
its aliases, gives a key twice, or holds what JSON cannot say (NaN, tags, several documents). YAML is read as YAML 1.2
reads it: `on`, `no`, `12:30` and `2024-01-01` are text.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NoReturn

from shared.errors import InvalidInput, Problem
from shared.workflow.nearest import shown

SIZE_MAX = 8 * 1024 * 1024
"""Bytes of one document. Ours: ten thousand jobs of 800 bytes; anything larger is data, not a workflow."""
DEPTH_MAX = 64
"""Objects and lists inside each other. Ours: no target's request comes near."""
VALUES_MAX = 1_000_000
"""Values in one document, aliases written out. Ours: a hundred for each of ten thousand jobs."""
FIELDS_MAX = 2_000
"""Fields of one object. Ours: no object of the format has a tenth of it."""
INTEGER_MAX = 2**63 - 1
"""Integers beyond 64 bits do not survive other people's JSON."""
PROBLEMS_MAX = 100
"""Problems listed for one document; further ones are counted."""
_DIGITS_MAX = 30

type_name = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false"}


def parse(data: bytes, *, name: str = "document") -> dict[str, Any]:
    """The object that a JSON or YAML document holds; InvalidInput with every problem of the text.

    JSON if the name ends in `.json`; YAML if it ends in `.yaml` or `.yml`, though what starts with `{` is tried as JSON
    first; otherwise by whether it starts with `{` or `[`.
    """
    text = _decoded(data)
    ending = name.rpartition(".")[2].lower()
    looks_like_json = text.lstrip(" \t\r\n")[:1] in ("{", "[")
    if ending in ("yaml", "yml"):
        value = _from_json_or_yaml(text) if looks_like_json else _from_yaml(text)
    elif looks_like_json or ending == "json":
        value = _from_json(text)
    else:
        value = _from_yaml(text)
    problems = _first(_unfit(value))
    if problems:
        raise InvalidInput(problems)
    if not isinstance(value, dict):
        raise InvalidInput(
            [
                Problem(
                    "",
                    f"the document is {type_name.get(type(value), 'empty')}, not an object",
                    'it starts with `{"name": ...` or, as YAML, `name: ...`',
                )
            ]
        )
    return value


def bounded(problems: list[Problem], total: int | None = None) -> list[Problem]:
    """At most PROBLEMS_MAX problems, then one that says how many more there are."""
    total = len(problems) if total is None else total
    if total <= PROBLEMS_MAX:
        return problems
    more = total - PROBLEMS_MAX
    return [*problems[:PROBLEMS_MAX], Problem("", f"and {more:,} more problems", "mend those above first")]


def _first(problems: Iterator[Problem]) -> list[Problem]:
    """As many as are listed; to count the others would be to work for whoever sent them."""
    found = list(islice(problems, PROBLEMS_MAX + 1))
    if len(found) > PROBLEMS_MAX:
        found[PROBLEMS_MAX] = Problem("", "and more problems of this kind", "mend those above first")
    return found


def path_of(parts: tuple[str | int, ...]) -> str:
    """`jobs[2].after[0]` of its parts; keys that are not plain words are quoted."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,127}", part):
            path += f".{part}" if path else part
        else:
            path += f"[{json.dumps(shown(part), ensure_ascii=False)}]"
    return path


def _refuse(path: str, message: str, hint: str = "") -> NoReturn:
    raise InvalidInput([Problem(path, message, hint)])


def _decoded(data: bytes) -> str:
    if len(data) > SIZE_MAX:
        _refuse(
            "",
            f"the document has {len(data):,} bytes; at most {SIZE_MAX:,} are read",
            "pass data as input files or parameters, and split what is really several workflows",
        )
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or data[:4] == b"\0\0\xfe\xff":
        _refuse("", "the document is UTF-16 or UTF-32", "save it as UTF-8")
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line, column = _line_and_column(data[: error.start].decode(), error.start)
        _refuse(_place(line, column), f"the byte 0x{data[error.start]:02x} is not UTF-8", "save the document as UTF-8")
    if (at := text.find("\0")) >= 0:
        _refuse(_place(*_line_and_column(text, at)), "there is a NUL byte", "a document is text: remove it")
    if not text or text.isspace():
        _refuse("", "the document is empty", "the least is a `name` and one of `jobs`")
    return text


def _place(line: int, column: int) -> str:
    return f"line {line}, column {column}"


def _line_and_column(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


# -- JSON ---------------------------------------------------------------------------------------------------------


def _from_json_or_yaml(text: str) -> Any:
    """A YAML file may well be written in braces; only when it is not JSON does YAML have a say."""
    try:
        json.JSONDecoder().raw_decode(text.lstrip(" \t\r\n"))
    except ValueError:
        return _from_yaml(text)
    except RecursionError:
        pass
    return _from_json(text)


def _from_json(text: str) -> Any:
    repeated = False

    def pairs_to_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        found = dict(pairs)
        repeated = repeated or len(found) != len(pairs)
        return found

    try:
        value = json.loads(text, object_pairs_hook=pairs_to_object, parse_int=_integer, parse_constant=_not_finite)
    except json.JSONDecodeError as error:
        _refuse(_place(error.lineno, error.colno), f"this is not JSON: {error.msg}", _json_hint(text, error))
    except RecursionError:
        _refuse("", f"objects and lists are nested more than {DEPTH_MAX} deep", "flatten the document")
    if repeated:
        raise InvalidInput(_first(_repeated_keys(text)))
    return value


def _json_hint(text: str, error: json.JSONDecodeError) -> str:
    if error.pos >= len(text.rstrip()):
        return "the document ends too early: was it cut off?"
    if text[error.pos] in "}]":
        return "is there a comma before it that should not be?"
    if text[error.pos] in "'#/":
        return "JSON has double quotes and no comments; name the file `.yaml` to write YAML"
    return "name the file `.yaml` if it is YAML" if text.lstrip()[0] not in "{[" else ""


def _integer(text: str) -> int:
    # Python refuses to read thousands of digits, and takes long over those it reads; the walk refuses this one.
    return int(text) if len(text) <= _DIGITS_MAX else 10**_DIGITS_MAX


def _not_finite(_text: str) -> float:
    return math.nan


_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]')


def _repeated_keys(text: str) -> Iterator[Problem]:
    """Where a well-formed JSON text gives a key twice. Reads it again, slower: only for texts known to."""
    # For each open container: its keys with their places (None for a list), and the key or index under way.
    stack: list[tuple[dict[str, int] | None, list[str | int]]] = []
    string = ""
    string_at = 0
    for token in _JSON_TOKEN.finditer(text):
        mark = token.group()
        if mark[0] == '"':
            string, string_at = mark, token.start()
        elif mark == "{":
            stack.append(({}, [""]))
        elif mark == "[":
            stack.append((None, [0]))
        elif mark in "}]":
            stack.pop()
        elif mark == ",":
            keys, current = stack[-1]
            if keys is None:
                assert isinstance(current[0], int), current
                current[0] += 1
        else:
            key = json.loads(string)
            keys, current = stack[-1]
            assert keys is not None, "a colon stands only in objects"
            current[0] = key
            if key in keys:
                yield _repeated(
                    tuple(at[0] for _, at in stack),
                    _line_and_column(text, keys[key]),
                    _line_and_column(text, string_at),
                )
            else:
                keys[key] = string_at


def _repeated(parts: tuple[str | int, ...], first: tuple[int, int], again: tuple[int, int]) -> Problem:
    return Problem(
        path_of(parts),
        f"is given twice: at {_place(*first)} and at {_place(*again)}",
        "keep one of them",
    )


# -- YAML ---------------------------------------------------------------------------------------------------------

_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER_STARTS = frozenset("-+.0123456789")
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def _scalar(text: str) -> Any:
    """What a plain scalar means in YAML 1.2's core schema."""
    if text in _NULLS:
        return None
    if text[0] not in _NUMBER_STARTS:
        return _BOOLEANS.get(text, text)
    if _DECIMAL.fullmatch(text):
        return _integer(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _OCTAL.fullmatch(text):
        return int(text[2:], 8) if len(text) <= _DIGITS_MAX else 10**_DIGITS_MAX
    if _HEXADECIMAL.fullmatch(text):
        return int(text[2:], 16) if len(text) <= _DIGITS_MAX else 10**_DIGITS_MAX
    if _NOT_FINITE.fullmatch(text):
        return math.nan
    return text


class _Frame:
    """An object or list under way."""

    __slots__ = ("anchor", "before", "key", "key_marks", "value")

    def __init__(self, value: dict[str, Any] | list[Any], anchor: str | None, before: tuple[int, int]) -> None:
        self.value = value
        self.anchor = anchor
        self.before = before
        """The builder's counters when it began."""
        self.key: str | None = None
        """The key whose value comes next; None when a key comes next."""
        self.key_marks: dict[str, Any] = {}


class _YamlBuilder:
    """Values from YAML's events, without recursion, with aliases counted as if they were written out."""

    def __init__(self) -> None:
        self.done: list[Any] = []
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._values = 0
        self._characters = 0
        self.problems: list[Problem] = []

    def scalar(self, event: Any) -> None:
        text = event.value
        if event.tag is not None:
            self._refuse_tag(event)
        self._values += 1
        self._characters += len(text)
        frame = self._stack[-1] if self._stack else None
        plain = event.implicit[0]
        if frame is not None and frame.key is None and type(frame.value) is dict:
            self._key(frame, text, _scalar(text) if plain else text, event.start_mark)
            value: Any = text
        else:
            value = _scalar(text) if plain else text
            self._add(value)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1, len(text))

    def _key(self, frame: _Frame, text: str, meaning: Any, mark: Any) -> None:
        frame.key = text
        if not isinstance(meaning, str):
            self.problems.append(
                Problem(
                    self._here(),
                    f"the key `{shown(text)}` at {_mark(mark)} is {'empty' if meaning is None else 'not text'}",
                    f'put it in quotes: "{shown(text)}"',
                )
            )
        elif text == "<<":
            self.problems.append(
                Problem(
                    self._here(),
                    f"at {_mark(mark)} is a merge key, which YAML 1.2 does not have",
                    "write the fields out, or put what jobs share into `defaults`",
                )
            )
        elif text in frame.key_marks:
            first = frame.key_marks[text]
            self.problems.append(
                _repeated(self._parts(), (first.line + 1, first.column + 1), (mark.line + 1, mark.column + 1))
            )
        else:
            frame.key_marks[text] = mark

    def start(self, value: dict[str, Any] | list[Any], event: Any) -> None:
        if event.tag is not None:
            self._refuse_tag(event)
        if self._stack and type(self._stack[-1].value) is dict and self._stack[-1].key is None:
            _refuse(_mark(event.start_mark), "a key is an object or a list", "keys are text")
        if len(self._stack) >= DEPTH_MAX:
            _refuse(
                _mark(event.start_mark),
                f"objects and lists are nested more than {DEPTH_MAX} deep",
                "flatten the document",
            )
        if event.anchor is not None:
            # Until it is complete nothing may refer to it, and what it shadows is gone.
            self._anchors.pop(event.anchor, None)
        self._stack.append(_Frame(value, event.anchor, (self._values, self._characters)))
        self._values += 1

    def end(self) -> None:
        frame = self._stack.pop()
        if frame.anchor is not None:
            self._anchors[frame.anchor] = (
                frame.value,
                self._values - frame.before[0],
                self._characters - frame.before[1],
            )
        self._add(frame.value)

    def alias(self, event: Any) -> None:
        place = _mark(event.start_mark)
        if any(frame.anchor == event.anchor for frame in self._stack):
            _refuse(place, f"`*{shown(event.anchor)}` refers to what it is part of", "write the value out")
        if event.anchor not in self._anchors:
            _refuse(
                place,
                f"`*{shown(event.anchor)}` refers to nothing",
                f"mark a value before it with `&{shown(event.anchor)}`",
            )
        value, values, characters = self._anchors[event.anchor]
        self._values += values
        self._characters += characters
        if self._values > VALUES_MAX or self._characters > SIZE_MAX:
            _refuse(
                place,
                f"aliases written out give more than {VALUES_MAX:,} values or {SIZE_MAX:,} characters",
                "put what jobs share into `defaults`",
            )
        frame = self._stack[-1] if self._stack else None
        if frame is not None and frame.key is None and type(frame.value) is dict:
            if not isinstance(value, str):
                _refuse(place, "a key is an object or a list", "keys are text")
            self._key(frame, value, value, event.start_mark)
        else:
            self._add(value)

    def _add(self, value: Any) -> None:
        if not self._stack:
            self.done.append(value)
            return
        frame = self._stack[-1]
        container = frame.value
        if type(container) is dict:
            assert frame.key is not None, "an object's value follows its key"
            container[frame.key] = value
            frame.key = None
        else:
            assert isinstance(container, list), container
            container.append(value)

    def _parts(self) -> tuple[str | int, ...]:
        return tuple(len(frame.value) if isinstance(frame.value, list) else frame.key or "" for frame in self._stack)

    def _here(self) -> str:
        return path_of(self._parts())

    def _refuse_tag(self, event: Any) -> NoReturn:
        tag = shown(str(event.tag).replace("tag:yaml.org,2002:", "!!"))
        _refuse(_mark(event.start_mark), f"the tag `{tag}` is not read", "leave it out; text goes in quotes")


def _mark(mark: Any) -> str:
    return _place(mark.line + 1, mark.column + 1)


def _from_yaml(text: str) -> Any:
    import yaml  # 20 ms that a reader of JSON need not spend

    Loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
    builder = _YamlBuilder()
    documents = 0
    on_event: dict[type, Callable[[Any], None]] = {
        yaml.ScalarEvent: builder.scalar,
        yaml.AliasEvent: builder.alias,
        yaml.MappingStartEvent: lambda event: builder.start({}, event),
        yaml.SequenceStartEvent: lambda event: builder.start([], event),
        yaml.MappingEndEvent: lambda _event: builder.end(),
        yaml.SequenceEndEvent: lambda _event: builder.end(),
    }
    try:
        loader = Loader(text)
        while (event := loader.get_event()) is not None:
            handle = on_event.get(type(event))
            if handle is not None:
                handle(event)
                if len(builder.problems) > PROBLEMS_MAX:
                    break
            elif type(event) is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    _refuse(
                        _mark(event.start_mark), "a second YAML document starts here", "one file holds one workflow"
                    )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        _refuse(
            _mark(mark) if mark is not None else "",
            f"this is not YAML: {shown(error.problem or error.context or 'cannot be read', 200)}",
            "tabs do not indent"
            if "token" in str(error.problem) and "\t" in text
            else "check indentation, colons and quotes near it",
        )
    except yaml.YAMLError as error:
        at = getattr(error, "position", None)
        place = _place(*_line_and_column(text, at)) if isinstance(at, int) and at <= len(text) else ""
        _refuse(place, "the document holds a character that YAML does not allow", "remove control characters")
    except RecursionError:
        _refuse("", f"objects and lists are nested more than {DEPTH_MAX} deep", "flatten the document")
    if builder.problems:
        raise InvalidInput(_first(iter(builder.problems)))
    return builder.done[0] if builder.done else None


# -- both ---------------------------------------------------------------------------------------------------------

_Place = tuple[Any, str | int]
"""Where a value stands: the place of what holds it, and its key or index there; () for the document."""


def _unfit(document: Any) -> Iterator[Problem]:
    """What the format can say and a workflow cannot hold: depth, amount, numbers and characters."""
    values = 1
    stack: list[tuple[Any, Any, int]] = [(document, (), 1)]
    while stack:
        container, place, depth = stack.pop()
        if type(container) is dict:
            if len(container) > FIELDS_MAX:
                yield Problem(path_of(_parts(place)), f"the object has more than {FIELDS_MAX:,} fields", "split it")
                return
            items: Any = container.items()
            for key in container:
                if not _is_clean(key):
                    yield Problem(path_of(_parts(place)), "a key holds a NUL or a broken character", "remove it")
        elif type(container) is list:
            items = enumerate(container)
        else:
            # The whole document is one scalar.
            items, container = ((None, container),), ()
        values += len(container)
        if values > VALUES_MAX:
            yield Problem("", f"the document holds more than {VALUES_MAX:,} values", "split it")
            return
        for key, value in items:
            kind = type(value)
            if kind is str:
                if not _is_clean(value):
                    yield Problem(
                        path_of(_parts((place, key))),
                        "the text holds a NUL or half of a surrogate pair",
                        "neither can be passed to a program: remove it",
                    )
            elif kind is dict or kind is list:
                if depth >= DEPTH_MAX:
                    yield Problem(
                        "", f"objects and lists are nested more than {DEPTH_MAX} deep", "flatten the document"
                    )
                    return
                stack.append((value, (place, key), depth + 1))
            elif kind is int:
                if not -INTEGER_MAX - 1 <= value <= INTEGER_MAX:
                    yield Problem(path_of(_parts((place, key))), "the number does not fit 64 bits", "put it in quotes")
            elif kind is float and not math.isfinite(value):
                yield Problem(
                    path_of(_parts((place, key))),
                    "is not a finite number",
                    "NaN and Infinity are not JSON: write a number or leave it out",
                )


def _is_clean(text: str) -> bool:
    if text.isascii():
        return "\0" not in text
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parts(place: Any) -> tuple[str | int, ...]:
    parts: list[str | int] = []
    while place:
        place, part = place
        if part is not None:
            parts.append(part)
    return tuple(reversed(parts))
