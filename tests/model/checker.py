"""Explores every state of a small model, breadth first, and shows the shortest way to one that must not be.

A state is any hashable value. What is reachable is finite because the model says so; `STATES_MAX` is there for the one that does not.
Only the way back to each state is kept (one edge a state), so memory grows with states and not with ways. Progress is checked backwards,
over the edges that must happen sooner or later: whatever happened, the goal can still be reached by them alone.
"""

from array import array
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

STATES_MAX = 3_000_000
"""Beyond this a model is taken to be infinite, or too large for the machine it is explored on."""

S = TypeVar("S", bound=Hashable)


class Step(NamedTuple, Generic[S]):
    """One edge."""

    label: str
    after: S
    ways: frozenset[str] = frozenset()
    """The notions of progress for which this must happen sooner or later if it stays possible: messages that a sweep sends again and
    again, time, ends. What may never happen (people, duplicates, crashes, good luck) is in none."""


class Model(Protocol[S]):
    def first(self) -> Iterable[S]: ...

    def steps(self, state: S) -> Iterable[Step[S]]:
        """Every edge out of `state`. Raises `Violation` for an edge that must not be there."""
        ...

    def wrong(self, state: S) -> str:
        """Why this state must not be; empty if it may."""
        ...

    def goals(self) -> Mapping[str, Callable[[S], bool]]:
        """For each notion of progress, where it leads."""
        ...

    def show(self, state: S) -> str:
        """The state in a line, for people."""
        ...


class Violation(Exception):
    """An edge that must not be there; `label` names it."""

    def __init__(self, label: str, what: str) -> None:
        super().__init__(what)
        self.label = label


@dataclass(frozen=True)
class Found:
    """What an exploration found. `wrong` is empty when all properties hold."""

    states: int
    transitions: int
    depth: int
    """Steps to the state farthest away."""
    wrong: str = ""
    trace: tuple[str, ...] = ()
    """The shortest way to what is wrong: step and state, alternating."""
    labels: Mapping[str, int] = field(default_factory=dict)
    """How often each kind of step (the first word of its label) was possible: what is 0 was not modelled after all."""

    def __str__(self) -> str:
        size = f"{self.states:,} states, {self.transitions:,} transitions, depth {self.depth}"
        return size if not self.wrong else "\n  ".join([f"{size}: {self.wrong}", *self.trace])


def explore(model: Model[S], *, states_max: int = STATES_MAX) -> Found:
    """Visit everything; stop at the first state or edge that is wrong, then check progress."""
    number: dict[S, int] = {}
    states: list[S] = []
    came_from, came_by, depth = array("l"), [], array("l")
    edges: dict[str, tuple[array[int], array[int]]] = {way: (array("l"), array("l")) for way in model.goals()}
    labels: dict[str, int] = {}
    transitions = 0

    def meet(state: S, origin: int, label: str) -> int:
        known = number.get(state)
        if known is None:
            known = number[state] = len(states)
            states.append(state)
            came_from.append(origin)
            came_by.append(label)
            depth.append(depth[origin] + 1 if origin >= 0 else 0)
            waiting.append(known)
        return known

    def found(wrong: str = "", at: int = -1, last: str = "") -> Found:
        trace = [last] if last else []
        while at >= 0:
            trace += [f"    {model.show(states[at])}", came_by[at]]
            at = came_from[at]
        return Found(len(states), transitions, max(depth), wrong, tuple(reversed(trace)), labels)

    waiting: deque[int] = deque()
    for state in model.first():
        meet(state, -1, "at first")
    while waiting:
        origin = waiting.popleft()
        wrong = model.wrong(states[origin])
        if wrong:
            return found(wrong, origin)
        try:
            for label, after, ways in model.steps(states[origin]):
                transitions += 1
                word = label.partition(" ")[0]
                labels[word] = labels.get(word, 0) + 1
                target = meet(after, origin, label)
                for way in ways:
                    edges[way][0].append(origin)
                    edges[way][1].append(target)
        except Violation as violation:
            return found(str(violation), origin, violation.label)
        if len(states) > states_max:
            raise MemoryError(f"more than {states_max:,} states")
    for way, goal in model.goals().items():
        stuck = _stuck([goal(state) for state in states], *edges[way])
        if stuck is not None:
            return found(f"from here there is no way on to: {way}", stuck)
    return found()


def _stuck(reached: list[bool], sources: "array[int]", targets: "array[int]") -> int | None:
    """The first state from which none of the states given can be reached by these edges."""
    into: dict[int, list[int]] = {}
    for source, target in zip(sources, targets, strict=True):
        if source != target:
            into.setdefault(target, []).append(source)
    waiting = deque(state for state, is_there in enumerate(reached) if is_there)
    while waiting:
        for source in into.get(waiting.popleft(), ()):
            if not reached[source]:
                reached[source] = True
                waiting.append(source)
    return next((state for state, is_there in enumerate(reached) if not is_there), None)
