"""Who may do what: one pure question, asked by every doorway that serves more than one person.

A grant gives a role on everything, on one workflow, or on every workflow with a tag. Roles include each other: whoever may register a
document decides what runs, so an author may do what an operator may, and who operates must see.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["viewer", "operator", "author", "admin"]
Action = Literal[
    "read",
    "run",
    "cancel",
    "rerun",
    "mark",
    "approve",
    "pause",
    "resume",
    "resize",
    "register",
    "unregister",
    "administer",
]

RANK: Final[Mapping[Role, int]] = {"viewer": 1, "operator": 2, "author": 3, "admin": 4}

NEEDED: Final[Mapping[Action, Role]] = {
    "read": "viewer",
    "run": "operator",
    "cancel": "operator",
    "rerun": "operator",
    "mark": "operator",
    "approve": "viewer",
    "pause": "operator",
    "resume": "operator",
    "resize": "operator",
    "register": "author",
    "unregister": "author",
    "administer": "admin",
}
"""The least role for each action. Who may approve stands in the document, which may name somebody who only sees."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A role on everything, or, with one of the others, on that workflow or on workflows with that tag alone."""

    role: Role
    workflow: str | None = None
    tag: str | None = None

    def covers(self, resource: "Resource") -> bool:
        if self.workflow is not None and self.workflow != resource.workflow:
            return False
        return self.tag is None or self.tag in resource.tags


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who was recognised. `name` is what is recorded with every act."""

    name: str
    grants: tuple[Grant, ...] = ()

    @property
    def sees_everything(self) -> bool:
        """Whether lists need no filter."""
        return any(grant.workflow is None and grant.tag is None for grant in self.grants)


@dataclass(frozen=True, slots=True)
class Resource:
    """A workflow, or a run or file of it. Without a workflow: the engine itself, which only unrestricted grants cover."""

    workflow: str | None = None
    tags: frozenset[str] = frozenset()


def role_on(principal: Principal, resource: Resource) -> Role | None:
    """The greatest role that the principal has there; None for none."""
    roles = [grant.role for grant in principal.grants if grant.covers(resource)]
    return max(roles, key=RANK.__getitem__, default=None)


def may(principal: Principal, action: Action, resource: Resource) -> bool:
    """Whether one of the principal's grants covers the resource with a role that is enough for the action."""
    needed = RANK[NEEDED[action]]
    return any(RANK[grant.role] >= needed and grant.covers(resource) for grant in principal.grants)
