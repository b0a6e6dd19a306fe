"""Who waits for whom, checked before there is a plan: unknown names, repeated names, cycles.

Works on names alone, so that a document whose jobs are wrong in other ways still hears about its graph; everything is iterative
and linear in jobs and edges, but for the sets of upstream jobs, which are one bit per pair.
"""

from collections.abc import Iterator, Sequence

from shared.errors import Problem
from shared.ids import NAME_PATTERN, is_name
from shared.workflow.nearest import Nearest, shown

CYCLE_SHOWN_MAX = 12
"""Jobs of a cycle that are named in its message."""
NAME_RULE = "1 to 64 letters, digits, `_`, `.` and `-`, beginning and ending with a letter or digit, no `..`"

assert NAME_PATTERN.startswith("^[A-Za-z0-9]"), "NAME_RULE says in words what the pattern says"


class Graph:
    """The jobs by position. `names[i]` is None where a job's name cannot be used; `after[i]` holds (place in the list,
    name). `problems` is everything wrong; `upstream(i)` is exact when there are none."""

    def __init__(
        self, names: Sequence[str | None], after: Sequence[Sequence[tuple[int, str]]], nearest: Nearest
    ) -> None:
        self.names = names
        self.after = after
        self.problems: list[Problem] = []
        self.position: dict[str, int] = {}
        self._nearest = nearest
        self._check_names()
        self._edges: list[list[int]] = [[] for _ in names]
        self._check_edges()
        self.order: list[int] = []
        self._check_cycles()
        self._upstream = self._close()

    def upstream(self, job: int) -> int:
        """The jobs that must have ended before this one, directly or not: a set of positions as the bits of a number."""
        return self._upstream[job]

    def is_upstream(self, before: int, job: int) -> bool:
        return bool(self._upstream[job] >> before & 1)

    def upstream_names(self, job: int) -> Iterator[str]:
        bits = self._upstream[job]
        while bits:
            lowest = bits & -bits
            name = self.names[lowest.bit_length() - 1]
            if name is not None:
                yield name
            bits ^= lowest

    def _check_names(self) -> None:
        folded: dict[str, int] = {}
        for position, name in enumerate(self.names):
            if name is None:
                continue
            if not is_usable(name):
                self.problems.append(name_problem(f"jobs[{position}].name", name, "a job"))
                continue
            first = folded.setdefault(name.casefold(), position)
            self.position.setdefault(name, position)
            if first == position:
                continue
            other = self.names[first]
            if other == name:
                message = f"`{name}` is the name of jobs[{first}] already"
            else:
                message = f"`{name}` differs from `{other}` (jobs[{first}]) only in upper and lower case"
            self.problems.append(Problem(f"jobs[{position}].name", message, "each job has a name of its own"))

    def _check_edges(self) -> None:
        for position, before in enumerate(self.after):
            seen: set[int] = set()
            for place, name in before:
                path = f"jobs[{position}].after[{place}]"
                target = self.position.get(name)
                if target is None:
                    hint = self._nearest.hint(name, self.position, "`after` names other jobs of this document")
                    self.problems.append(Problem(path, f"there is no job `{shown(name)}`", hint))
                elif name == self.names[position]:
                    self.problems.append(Problem(path, f"`{name}` waits for itself", "remove it"))
                elif target in seen:
                    self.problems.append(Problem(path, f"`{name}` is named twice", "once is enough"))
                else:
                    seen.add(target)
                    self._edges[position].append(target)

    def _check_cycles(self) -> None:
        for group in self._knots():
            cycle = self._cycle_in(group)
            names = [self.names[position] or "?" for position in cycle]
            if len(names) > CYCLE_SHOWN_MAX:
                half = CYCLE_SHOWN_MAX // 2
                names = [*names[:half], f"… {len(names) - 2 * half} more …", *names[-half:]]
            self.problems.append(
                Problem(
                    f"jobs[{cycle[0]}].after",
                    f"these jobs wait for each other: {' -> '.join([*names, names[0]])}",
                    "each arrow reads `waits for`; remove one of them",
                )
            )

    def _knots(self) -> list[list[int]]:
        """Groups of jobs that all wait for each other (Tarjan's algorithm, without recursion). Leaves in `order` each
        job after those it waits for."""
        number: dict[int, int] = {}
        low: dict[int, int] = {}
        held: list[int] = []
        is_held: set[int] = set()
        knots: list[list[int]] = []
        for root in range(len(self.names)):
            if root in number:
                continue
            number[root] = low[root] = len(number)
            held.append(root)
            is_held.add(root)
            stack = [(root, iter(self._edges[root]))]
            while stack:
                job, rest = stack[-1]
                before = next(rest, None)
                if before is None:
                    stack.pop()
                    if stack:
                        low[stack[-1][0]] = min(low[stack[-1][0]], low[job])
                    if low[job] == number[job]:
                        group = [held.pop()]
                        while group[-1] != job:
                            group.append(held.pop())
                        is_held.difference_update(group)
                        if len(group) > 1:
                            knots.append(sorted(group))
                    self.order.append(job)
                elif before not in number:
                    number[before] = low[before] = len(number)
                    held.append(before)
                    is_held.add(before)
                    stack.append((before, iter(self._edges[before])))
                elif before in is_held:
                    low[job] = min(low[job], number[before])
        return sorted(knots)

    def _cycle_in(self, group: list[int]) -> list[int]:
        """A shortest cycle through the group's first job."""
        inside = set(group)
        first = group[0]
        came_from: dict[int, int] = {}
        level = [first]
        while level:
            following = []
            for job in level:
                for before in self._edges[job]:
                    if before == first:
                        way = [job]
                        while way[-1] != first:
                            way.append(came_from[way[-1]])
                        return way[::-1]
                    if before in inside and before not in came_from:
                        came_from[before] = job
                        following.append(before)
            level = following
        raise AssertionError("every job of a knot is on a cycle")

    def _close(self) -> list[int]:
        upstream = [0] * len(self.names)
        for job in self.order:
            bits = 0
            for before in self._edges[job]:
                bits |= upstream[before] | 1 << before
            upstream[job] = bits
        return upstream


def is_usable(name: str) -> bool:
    # The pattern's `$` would let a line break pass at the end.
    return is_name(name) and not name.endswith("\n")


def name_problem(path: str, name: str, of: str) -> Problem:
    if "/" in name or "\\" in name or ".." in name:
        message = f"`{shown(name)}` could be taken for a path"
    elif any(letter.isspace() for letter in name):
        message = f"`{shown(name)}` holds a space or line break"
    elif len(name) > 64:
        message = f"`{shown(name)}` has {len(name)} characters"
    elif not name:
        message = "is empty"
    else:
        message = f"`{shown(name)}` is not a name"
    return Problem(path, message, f"the name of {of} is {NAME_RULE}")
