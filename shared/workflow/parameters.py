"""Parameters of a run: the schema a document declares, and the values a run is asked for with.

What it promises: values are checked before a run exists, every problem at once; what is not declared is refused; the value
of a parameter marked `writeOnly` is never repeated; and neither a schema nor a value can keep the checker busy: patterns are
matched in linear time, references stay inside the schema and never go round, and what they expand to is bounded.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from shared.errors import InvalidInput, Problem
from shared.secrecy import secret_places
from shared.workflow.nearest import Nearest, listed, shown
from shared.workflow.syntax import PROBLEMS_MAX, bounded, path_of

if TYPE_CHECKING:
    import jsonschema_rs

DRAFT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_SIZE_MAX = 256 * 1024
"""Characters of a parameters schema as JSON."""
SCHEMA_DEPTH_MAX = 32
"""Objects and lists inside each other."""
EXPANDED_MAX = 20_000
"""Subschemas with references written out: ten references to ten references to … would take for ever to check."""
VALUES_SIZE_MAX = 60_000
"""Bytes of a run's parameters as JSON: they are stored with the run's first event, and a commit takes 100 KB in all."""
_MESSAGE_LENGTH_MAX = 300
TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_IDENTIFIER = "urn:runfold:parameters"

# Where subschemas stand in a schema, by the shape of what holds them.
_ONE = ("items", "contains", "additionalProperties", "propertyNames", "if", "then", "else", "not")
_ONE_MORE = ("unevaluatedItems", "unevaluatedProperties", "contentSchema")
_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
_FOREIGN = ("$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$vocabulary", "id")

Schema = Mapping[str, Any]


def check_schema(schema: Any, *, path: str = "parameters") -> list[Problem]:
    """Everything wrong with a parameters schema; nothing when `fill` can rely on it."""
    if not isinstance(schema, Mapping):
        return [Problem(path, "must be a JSON Schema of type object", '{"type": "object", "properties": {…}}')]
    try:
        size = len(json.dumps(schema))
    except (ValueError, TypeError, RecursionError):
        return [Problem(path, "must be a JSON Schema of type object", "JSON values only, not nested without end")]
    if size > SCHEMA_SIZE_MAX:
        return [Problem(path, f"has {size:,} characters; at most {SCHEMA_SIZE_MAX:,} are taken")]
    if _depth_exceeds(schema, SCHEMA_DEPTH_MAX):
        return [Problem(path, f"is nested more than {SCHEMA_DEPTH_MAX} deep", "flatten it")]
    problems: list[Problem] = []
    if schema.get("type") != "object":
        problems.append(Problem(f"{path}.type", "must be `object`", 'parameters have names: "type": "object"'))
    if schema.get("$schema", DRAFT) not in (DRAFT, DRAFT + "#"):
        problems.append(Problem(f"{path}.$schema", "is another draft than 2020-12", f"leave it out, or write {DRAFT}"))
    problems += _unsound(schema, path)
    if problems:
        return bounded(problems)
    return bounded(_wrong_defaults(schema, path))


def declared(schema: Schema) -> frozenset[str] | None:
    """The names of the parameters; None when the schema lets others pass, too."""
    if schema.get("patternProperties") or schema.get("additionalProperties", False) is not False:
        return None
    return frozenset(schema.get("properties", {}))


def fill(schema: Schema | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with the schema's defaults filled in, also inside objects and list items that are there.

    Raises InvalidInput with every problem, each under `params.<name>`; a value that looks like a secret is one. The schema is one that `check_schema` has passed; None
    means that the workflow takes no parameters.
    """
    problems: list[Problem] = []
    nearest = Nearest()
    for name in values:
        if not is_declared(schema, name):
            problems.append(_undeclared(schema, name, nearest))
    if schema is None:
        if problems:
            raise InvalidInput(bounded(problems))
        return {}
    try:
        if len(json.dumps(values, allow_nan=False).encode()) > VALUES_SIZE_MAX:
            raise InvalidInput([Problem("params", f"have more than {VALUES_SIZE_MAX:,} bytes", "pass data as a file")])
    except (ValueError, TypeError, RecursionError):
        raise InvalidInput([Problem("params", "hold what is not JSON", "no NaN, no Infinity")]) from None
    # What no schema has said anything about need not be judged by it.
    known = {name: value for name, value in values.items() if is_declared(schema, name)}
    filled = _filled(schema, schema, known, 0)
    assert isinstance(filled, dict), "an object stays one"
    for error in _errors(schema, filled):
        problems.append(error)
        if len(problems) > PROBLEMS_MAX:
            break
    for place, what in () if problems else secret_places(filled, ("params",)):
        hint = "give a secret to the job that needs it, by reference, in its `secrets`"
        problems.append(Problem(path_of(place), f"looks like {what}, and parameters are recorded and shown", hint))
    if problems:
        raise InvalidInput(bounded(problems))
    return filled


def from_text(schema: Schema | None, texts: Mapping[str, str]) -> dict[str, Any]:
    """The values that `name=text` on a command line means, each by the type its schema gives; `fill` does the rest.

    A parameter of several types takes the first that fits of: integer, number, boolean, null, array or object (as JSON),
    string. Raises InvalidInput with every problem.
    """
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, text in texts.items():
        declared = _subschema(schema, name) if schema is not None else None
        types = _types(declared)
        try:
            values[name] = _converted(text, types)
        except ValueError:
            written = "the value" if _is_hidden(schema, (name,)) else f"`{shown(text)}`"
            problems.append(
                Problem(path_of(("params", name)), f"{written} is not {_article(listed(types))}", _how_to_write(types))
            )
    if problems:
        raise InvalidInput(bounded(problems))
    return values


# -- the schema itself --------------------------------------------------------------------------------------------


def _depth_exceeds(value: Any, depth_max: int) -> bool:
    level = [value]
    for _ in range(depth_max):
        level = [
            child
            for held in level
            for child in (held.values() if isinstance(held, Mapping) else held)
            if isinstance(child, Mapping | list | tuple)
        ]
        if not level:
            return False
    return True


def _subschemas(schema: Any) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """The schemas that stand directly in a schema, with the way to each."""
    if not isinstance(schema, Mapping):
        return
    for keyword in (*_ONE, *_ONE_MORE):
        if isinstance(schema.get(keyword), Mapping):
            yield (keyword,), schema[keyword]
    for keyword in _LISTS:
        if isinstance(schema.get(keyword), list):
            for position, one in enumerate(schema[keyword]):
                yield (keyword, position), one
    for keyword in _MAPS:
        if isinstance(schema.get(keyword), Mapping):
            for name, one in schema[keyword].items():
                yield (keyword, name), one


def _every_subschema(schema: Schema) -> Iterator[tuple[tuple[str | int, ...], Schema]]:
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), schema)]
    while stack:
        place, one = stack.pop()
        if isinstance(one, Mapping):
            yield place, one
            stack.extend((place + way, below) for way, below in _subschemas(one))


def _unsound(schema: Schema, path: str) -> list[Problem]:
    """Why the checker could not be trusted with this schema."""
    problems: list[Problem] = []
    for place, one in _every_subschema(schema):
        here = _under(path, place)
        for keyword in _FOREIGN:
            if keyword in one:
                problems.append(
                    Problem(
                        _under(here, (keyword,)),
                        "is not taken: the schema stands for itself",
                        "use $ref with #/$defs/…",
                    )
                )
        if one.get("writeOnly") is True:
            # Secrets never reach events, and a run's parameters are in its first one.
            problems.append(
                Problem(
                    _under(here, ("writeOnly",)),
                    "cannot be kept: parameters are recorded with the run and shown",
                    "give a secret to the job that needs it, by reference, in its `secrets`",
                )
            )
        reference = one.get("$ref")
        if isinstance(reference, str):
            if not reference.startswith("#"):
                problems.append(
                    Problem(
                        _under(here, ("$ref",)),
                        f"`{shown(reference)}` is outside the schema",
                        "put it under $defs: #/$defs/…",
                    )
                )
            elif _resolved(schema, reference) is None:
                problems.append(
                    Problem(
                        _under(here, ("$ref",)),
                        f"`{shown(reference)}` refers to nothing",
                        "references look like #/$defs/name",
                    )
                )
    import jsonschema_rs

    # A schema is data to the schema of schemas: no reference in it is followed.
    for error in jsonschema_rs.Draft202012Validator({"$ref": DRAFT}).iter_errors(dict(schema)):
        problems.append(_about_schema(path, error))
        if len(problems) > PROBLEMS_MAX:
            break
    if problems:
        return problems
    way = _reference_cycle(schema)
    if way is not None:
        return [Problem(path, f"the reference `{shown(way)}` leads back to itself", "write as many levels as you need")]
    try:
        expanded = _expanded(schema, schema, {})
    except RecursionError:
        expanded = EXPANDED_MAX + 1
    if expanded > EXPANDED_MAX:
        return [Problem(path, f"its references written out give more than {EXPANDED_MAX:,} schemas", "simplify it")]
    try:
        _validator(json.dumps(schema))
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        problems.append(_about_schema(path, error))
    return problems


def _about_schema(path: str, error: Exception) -> Problem:
    place = tuple(getattr(error, "instance_path", ()))
    message = _bounded_message(str(getattr(error, "message", error)))
    value = getattr(error, "instance", None)
    if place[-1:] == ("type",) and isinstance(value, str):
        hint = Nearest().hint(value, TYPES, f"write {listed(TYPES)}")
        return Problem(_under(path, place), f"`{shown(value)}` is not a type", hint)
    hint = "patterns are matched in linear time: no look-around, no back-references" if "regex" in message else ""
    return Problem(_under(path, place), message, hint)


def _under(path: str, place: tuple[str | int, ...]) -> str:
    below = path_of(place)
    return path + (below if below.startswith("[") or not below else f".{below}")


def _resolved(root: Any, reference: str) -> Any:
    found = root
    for part in reference.removeprefix("#").split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and part in found:
            found = found[part]
        elif isinstance(found, list) and part.isdecimal() and int(part[:9]) < len(found):
            found = found[int(part[:9])]
        else:
            return None
    return found if isinstance(found, Mapping | bool) else None


def _reference_cycle(root: Schema) -> str | None:
    """A `$ref` that leads, over other references and the schemas below them, back to itself."""
    state: dict[int, int] = {}
    stack: list[tuple[Any, Iterator[tuple[str, Any]]]] = []

    def below(one: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(one, Mapping):
            if isinstance(one.get("$ref"), str):
                yield one["$ref"], _resolved(root, one["$ref"])
            for _, held in _subschemas(one):
                yield "", held

    state[id(root)] = 1
    stack.append((root, below(root)))
    last_reference = "#"
    while stack:
        one, rest = stack[-1]
        step = next(rest, None)
        if step is None:
            state[id(one)] = 2
            stack.pop()
            continue
        reference, following = step
        last_reference = reference or last_reference
        if not isinstance(following, Mapping):
            continue
        seen = state.get(id(following), 0)
        if seen == 1:
            return last_reference
        if seen == 0:
            state[id(following)] = 1
            stack.append((following, below(following)))
    return None


def _expanded(root: Schema, one: Any, known: dict[int, int]) -> int:
    """Schemas in a schema with its references, which do not go round, written out."""
    if not isinstance(one, Mapping):
        return 1
    if id(one) not in known:
        known[id(one)] = 1  # nesting is bounded, and so is this recursion but for chains of references
        total = 1 + sum(_expanded(root, held, known) for _, held in _subschemas(one))
        if isinstance(one.get("$ref"), str):
            total += _expanded(root, _resolved(root, one["$ref"]), known)
        known[id(one)] = min(total, EXPANDED_MAX + 1)
    return known[id(one)]


def _wrong_defaults(schema: Schema, path: str) -> list[Problem]:
    import jsonschema_rs

    problems: list[Problem] = []
    root = {**schema, "$id": _IDENTIFIER}
    for place, one in _every_subschema(schema):
        if "default" not in one:
            continue
        pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)
        around = {"$schema": DRAFT, "$ref": f"{_IDENTIFIER}#{_quoted(pointer)}", "$defs": {"root": root}}
        validator = jsonschema_rs.Draft202012Validator(
            around, mask="the default", pattern_options=jsonschema_rs.RegexOptions()
        )
        default = _filled(schema, one, one["default"], 0)
        for error in validator.iter_errors(default):
            problems.append(
                Problem(
                    _under(path, (*place, "default", *error.instance_path)),
                    f"does not fit its own schema: {_bounded_message(error.message)}",
                    "write a default that the schema allows",
                )
            )
            if len(problems) > PROBLEMS_MAX:
                return problems
    return problems


def _quoted(pointer: str) -> str:
    return re.sub(r"[^A-Za-z0-9/$~_.-]", lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), pointer)


# -- values -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _validator(schema: str, mask: str | None = None) -> "jsonschema_rs.Draft202012Validator":
    import jsonschema_rs  # a native library that a workflow without parameters never needs

    return jsonschema_rs.Draft202012Validator(
        json.loads(schema), mask=mask, validate_formats=True, pattern_options=jsonschema_rs.RegexOptions()
    )


def _errors(schema: Schema, values: dict[str, Any]) -> Iterator[Problem]:
    text = json.dumps(schema, sort_keys=True)
    # A message about a whole object repeats all that is in it, so one hidden value hides them all.
    mask = "the value" if _hides_anything(schema) else None
    for error in _validator(text, mask).iter_errors(values):
        yield Problem(
            path_of(("params", *error.instance_path)),
            _bounded_message(error.message),
            _hint(error),
        )


def _hint(error: "jsonschema_rs.ValidationError") -> str:
    if error.schema_path and error.schema_path[-1] == "required":
        return "give it a value, or a default in the document"
    return ""


def _bounded_message(message: str) -> str:
    return shown(" ".join(message.split()), _MESSAGE_LENGTH_MAX)


def is_declared(schema: Schema | None, name: str) -> bool:
    """Whether a run may be given a parameter of this name."""
    if schema is None:
        return False
    if name in schema.get("properties", {}):
        return True
    # JSON Schema lets everything pass that it does not mention; a misspelt parameter must not.
    if "additionalProperties" in schema:
        return schema["additionalProperties"] is not False or _matches_pattern(schema, name)
    return _matches_pattern(schema, name)


def _matches_pattern(schema: Schema, name: str) -> bool:
    patterns = schema.get("patternProperties")
    if not patterns:
        return False
    only = {"type": "object", "patternProperties": dict.fromkeys(patterns, True), "additionalProperties": False}
    return bool(_validator(json.dumps(only)).is_valid({name: None}))


def _undeclared(schema: Schema | None, name: str, nearest: Nearest) -> Problem:
    names = sorted(schema.get("properties", {})) if schema is not None else []
    if not names:
        return Problem(
            path_of(("params", name)), "is not a parameter: the workflow has none", "declare it under `parameters`"
        )
    return Problem(
        path_of(("params", name)),
        "is not a parameter of the workflow",
        nearest.hint(name, names, f"there are {listed(names)}"),
    )


def _filled(root: Schema, schema: Any, value: Any, depth: int) -> Any:
    """The value with defaults put in where its schema has some and it says nothing."""
    if not isinstance(schema, Mapping) or depth > 2 * SCHEMA_DEPTH_MAX:
        return value
    if isinstance(schema.get("$ref"), str):
        value = _filled(root, _resolved(root, schema["$ref"]), value, depth + 1)
    if isinstance(value, Mapping):
        filled = dict(value)
        properties = schema.get("properties")
        for name, one in properties.items() if isinstance(properties, Mapping) else ():
            if name in filled:
                filled[name] = _filled(root, one, filled[name], depth + 1)
            else:
                found = _default(root, one)
                if found is not _NOTHING:
                    filled[name] = _filled(root, one, deepcopy(found), depth + 1)
        value = filled
    elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        value = [_filled(root, schema["items"], item, depth + 1) for item in value]
    for part in schema.get("allOf", ()) if isinstance(schema.get("allOf"), list) else ():
        value = _filled(root, part, value, depth + 1)
    return value


_NOTHING = object()


def _default(root: Schema, schema: Any) -> Any:
    for _ in range(SCHEMA_DEPTH_MAX):
        if not isinstance(schema, Mapping):
            return _NOTHING
        if "default" in schema:
            return schema["default"]
        if not isinstance(schema.get("$ref"), str):
            return _NOTHING
        schema = _resolved(root, schema["$ref"])
    return _NOTHING


# -- what must not be shown ---------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _hides(schema: str) -> bool:
    return any(one.get("writeOnly") is True for _, one in _every_subschema(json.loads(schema)))


def _hides_anything(schema: Schema) -> bool:
    return _hides(json.dumps(schema, sort_keys=True))


def _is_hidden(schema: Schema | None, place: tuple[str, ...]) -> bool:
    return schema is not None and bool(place) and _hides_anything(schema)


# -- command line -------------------------------------------------------------------------------------------------


def _subschema(schema: Schema, name: str) -> Any:
    one = schema.get("properties", {}).get(name)
    for _ in range(SCHEMA_DEPTH_MAX):
        if not isinstance(one, Mapping) or "type" in one or not isinstance(one.get("$ref"), str):
            return one
        one = _resolved(schema, one["$ref"])
    return one


def _types(schema: Any) -> tuple[str, ...]:
    if isinstance(schema, Mapping):
        given = schema.get("type")
        if isinstance(given, str):
            return (given,)
        if isinstance(given, list):
            return tuple(given)
        allowed = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(allowed, list) and allowed:
            return tuple(dict.fromkeys(_json_type(value) for value in allowed))
    return ("string",)


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _converted(text: str, types: tuple[str, ...]) -> Any:
    if "integer" in types and re.fullmatch(r"[-+]?[0-9]{1,30}", text):
        return int(text)
    if "number" in types and re.fullmatch(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", text):
        number = int(text) if re.fullmatch(r"[-+]?[0-9]{1,30}", text) else float(text)
        if math.isfinite(number):
            return number
    if "boolean" in types and text in ("true", "false"):
        return text == "true"
    if "null" in types and text == "null":
        return None
    if ("array" in types or "object" in types) and text.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(text)
        except RecursionError:
            raise ValueError("nested too deep") from None
        except ValueError:
            if "string" not in types:
                raise
        else:
            if _json_type(value) in types:
                return value
    if "string" in types:
        return text
    raise ValueError("none of the types fits")


def _article(types: str) -> str:
    return f"an {types}" if types[:1] in "aeiou" else f"a {types}"


def _how_to_write(types: tuple[str, ...]) -> str:
    how = {
        "boolean": "write true or false",
        "integer": "write a whole number",
        "number": "write a number",
        "array": 'write JSON: \'["a", "b"]\'',
        "object": "write JSON: '{\"a\": 1}'",
        "null": "write null",
    }
    return "; ".join(how[name] for name in types if name in how)
