"""Which names a template may use where it stands, and what is wrong with those it does use.

Knows the roots and their shapes: `run`, `workflow`, `job` (texts), `attempt` (a number), the instants, `params`,
`jobs.<name>.outputs` and `.outcome`, `outcomes.<name>`, `item`, `item_index`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.template.tree import (
    Calculate,
    Expression,
    Literal,
    Lookup,
    Root,
    children,
    constant_path,
    written,
)
from shared.workflow.nearest import Nearest

TIMES = frozenset({"scheduled_at", "data_interval_start", "data_interval_end", "previous_success_at", "requested_at"})
"""Aware times, or none where a run has no such instant."""

_NUMBERS = frozenset({"attempt", "item_index"})

ROOTS = frozenset({"run", "workflow", "job", "attempt", "params", "jobs", "outcomes"}) | TIMES


@dataclass(frozen=True, slots=True)
class Names:
    """What is known before a run about the names in one place of a document."""

    params: frozenset[str] | None = None
    """The declared parameters; None when any may be given."""
    jobs: frozenset[str] = frozenset()
    """Jobs upstream of this place: only their outputs and outcomes are there when it is rendered."""
    all_jobs: frozenset[str] = frozenset()
    """All jobs of the document, for saying that one exists but is not upstream."""
    item: bool = False
    """Whether `item` and `item_index` mean something: inside a job with `for_each`."""
    roots: frozenset[str] = ROOTS
    """Roots that are there; leave out `job` and `attempt` where no job is being started."""
    nearest: Nearest = field(default_factory=Nearest, compare=False, repr=False)
    """Pass the one of the document on: thousands of wrong names must not mean millions of comparisons."""


@dataclass(frozen=True, slots=True)
class Wrong:
    message: str
    hint: str = ""


# What people who come from other systems try first.
_ELSEWHERE = {
    "null": "write none",
    "nil": "write none",
    "undefined": "write none, or `is defined`",
    "env": "templates see no environment; use params",
    "environ": "templates see no environment; use params",
    "now": "a rendering must not depend on when it happens: use scheduled_at or requested_at",
    "ds": "write scheduled_at | date('%Y-%m-%d')",
    "ts": "write scheduled_at | iso",
    "execution_date": "write scheduled_at",
    "logical_date": "write scheduled_at",
    "data_interval": "write data_interval_start or data_interval_end",
    "run_id": "write run",
    "inputs": "write params, or jobs.<name>.outputs",
    "outputs": "write jobs.<name>.outputs",
    "var": "use params",
    "ssm": "systems manager parameters are not read by templates; use secrets",
}


def wrong_names(expression: Expression, names: Names) -> list[Wrong]:
    """Everything wrong with the names in an expression, each said once."""
    return list(dict.fromkeys(_walk(expression, names)))


def _walk(expression: Expression, names: Names) -> Iterator[Wrong]:
    waiting = [expression]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Calculate):
            dashed = _dashed_job(node, names)
            if dashed is not None:
                yield dashed
                continue
        if isinstance(node, Root | Lookup):
            path = constant_path(node)
            if path is not None:
                yield from _wrong_path(*path, names)
                waiting.extend(reversed(list(_keys_of(node))))
                continue
        waiting.extend(reversed(list(children(node))))


def _keys_of(node: Expression) -> Iterator[Expression]:
    while isinstance(node, Lookup):
        if not isinstance(node.key, Literal):
            yield node.key
        node = node.target


def _wrong_path(root: str, keys: tuple[str | int, ...], complete: bool, names: Names) -> Iterator[Wrong]:
    known = names.roots | ({"item", "item_index"} if names.item else frozenset())
    if root not in known:
        yield _unknown_root(root, known, names)
        return
    match root:
        case "params":
            if keys and names.params is not None and keys[0] not in names.params:
                yield _unknown(
                    "params", keys[0], names.params, "the parameters are declared under `parameters`", names.nearest
                )
        case "jobs":
            yield from _wrong_job(keys, complete, names)
        case "outcomes":
            if keys:
                yield from _unknown_job("outcomes", keys[0], names)
            elif not complete:
                yield Wrong("the job behind outcomes must be named outright", "write outcomes.<name>")
            if len(keys) > 1 or (keys and not complete):
                yield _no_more(written(root, keys[:1]), "a text")
        case "item" | "event":
            # Their shape is whoever's who sent them.
            pass
        case _:
            if keys or not complete:
                yield _no_more(root, "a time" if root in TIMES else "a number" if root in _NUMBERS else "a text")


def _no_more(path: str, is_a: str) -> Wrong:
    return Wrong(f"{path} is {is_a} and has nothing behind a dot or in brackets", f"write {path}, or use a filter")


def _unknown_root(root: str, known: frozenset[str], names: Names) -> Wrong:
    if root in {"item", "item_index"}:
        return Wrong(f"{root} is known only in a job with for_each")
    if root in ROOTS:
        return Wrong(f"{root} is not known here", f"known here are {', '.join(sorted(known))}")
    if root in _ELSEWHERE:
        return Wrong(f"{root} is not known", _ELSEWHERE[root])
    guess = names.nearest.to(root, sorted(known))
    if guess:
        return Wrong(f"{root} is not known: did you mean {guess}?")
    return Wrong(f"{root} is not known", f"known are {', '.join(sorted(known))}")


def _unknown(root: str, key: str | int, known: frozenset[str], otherwise: str, nearest: Nearest) -> Wrong:
    guess = nearest.to(str(key), sorted(known))
    if guess:
        return Wrong(f"{written(root, [key])} is not known: did you mean {written(root, [guess])}?")
    return Wrong(f"{written(root, [key])} is not known", otherwise)


def _wrong_job(keys: tuple[str | int, ...], complete: bool, names: Names) -> Iterator[Wrong]:
    if not keys:
        yield Wrong("a job must be named outright", "write jobs.<name>.outputs.<key> or jobs.<name>.outcome")
        return
    wrong = list(_unknown_job("jobs", keys[0], names))
    if wrong:
        yield from wrong
        return
    job = written("jobs", keys[:1])
    if len(keys) == 1:
        yield Wrong(f"{job} is a job, not a value", f"write {job}.outputs.<key> or {job}.outcome")
    elif keys[1] == "outcome":
        if len(keys) > 2 or not complete:
            yield _no_more(f"{job}.outcome", "a text")
    elif keys[1] != "outputs":
        guess = names.nearest.to(str(keys[1]), ("outputs", "outcome"))
        yield Wrong(
            f"{written('jobs', keys[:2])} is not known" + (f": did you mean {job}.{guess}?" if guess else ""),
            f"a job has outputs and outcome: {job}.outputs.<key>",
        )


def _unknown_job(root: str, job: str | int, names: Names) -> Iterator[Wrong]:
    if job in names.jobs:
        return
    if job in names.all_jobs:
        yield Wrong(
            f"{written(root, [job])} is not known here: the job is not upstream of this one",
            f"add {job!r} to `after`",
        )
        return
    # A job upstream is the better guess; only where none is near, any job of the document.
    upstream = names.nearest.to(str(job), sorted(names.jobs))
    known = names.all_jobs if upstream is None else frozenset({upstream})
    yield _unknown(root, job, known, "no job has that name", names.nearest)


def _dashed_job(node: Calculate, names: Names) -> Wrong | None:
    """`jobs.my-job.outputs.x`, which reads as a subtraction, where a job of that name, or of one like it, exists."""
    words: list[str] = []
    left: Expression = node
    while isinstance(left, Calculate) and left.operator == "-":
        path = constant_path(left.right)
        if path is None:
            return None
        words.append(path[0])
        left = left.left
    path = constant_path(left)
    if path is None or path[0] not in ("jobs", "outcomes") or len(path[1]) != 1 or not words:
        return None
    root = path[0]
    first = str(path[1][0])
    name = "-".join([first, *reversed(words)])
    known = names.jobs | names.all_jobs
    if name not in known:
        near = None if first in known else names.nearest.to(name, sorted(known))
        if near is None:
            return None
        return Wrong(f"{root}.{name} is read as a subtraction", f"did you mean {written(root, [near])}?")
    return Wrong(f"{root}.{name} is read as a subtraction", f"a name with - stands in brackets: {root}['{name}']")
