"""Who may do what, cell by cell."""

from collections.abc import Callable
from itertools import product
from typing import get_args

import pytest

from shared.decide.access import NEEDED, Action, Grant, Principal, Resource, Role, may

ROLES: tuple[Role, ...] = get_args(Role)
ACTIONS: tuple[Action, ...] = get_args(Action)

ALLOWED: dict[Role, set[Action]] = {
    "viewer": {"read", "approve"},
    "operator": {"read", "run", "cancel", "rerun", "mark", "approve", "pause", "resume", "resize"},
    "author": {"read", "run", "cancel", "rerun", "mark", "approve", "pause", "resume", "resize", "register", "unregister"},
    "admin": {
        "read", "run", "cancel", "rerun", "mark", "approve", "pause", "resume", "resize", "register", "unregister", "administer",
    },
}  # fmt: skip
"""Written out, so that a change of the rules is a change of this table."""

SALES = Resource("sales", frozenset({"finance", "nightly"}))
PLAIN = Resource("sales")
OTHER = Resource("other", frozenset({"lab"}))
ENGINE = Resource()

SCOPES: dict[str, tuple[Callable[[Role], Grant], dict[str, bool]]] = {
    "everything": (Grant, {"sales": True, "plain": True, "other": True, "engine": True}),
    "its workflow": (
        lambda role: Grant(role, workflow="sales"),
        {"sales": True, "plain": True, "other": False, "engine": False},
    ),
    "its tag": (
        lambda role: Grant(role, tag="finance"),
        {"sales": True, "plain": False, "other": False, "engine": False},
    ),
    "workflow and tag": (
        lambda role: Grant(role, workflow="sales", tag="finance"),
        {"sales": True, "plain": False, "other": False, "engine": False},
    ),
    "another workflow": (
        lambda role: Grant(role, workflow="sale"),
        {"sales": False, "plain": False, "other": False, "engine": False},
    ),
}
RESOURCES = {"sales": SALES, "plain": PLAIN, "other": OTHER, "engine": ENGINE}


@pytest.mark.parametrize(("scope", "role", "action", "where"), list(product(SCOPES, ROLES, ACTIONS, RESOURCES)))
def test_a_grant_allows_what_the_table_says_and_nothing_else(
    scope: str, role: Role, action: Action, where: str
) -> None:
    grant_of, covered = SCOPES[scope]
    principal = Principal("ann", (grant_of(role),))

    assert may(principal, action, RESOURCES[where]) is (action in ALLOWED[role] and covered[where])


def test_the_table_knows_every_role_and_every_action() -> None:
    assert set(ALLOWED) == set(ROLES)
    assert ALLOWED["admin"] == set(ACTIONS) == set(NEEDED)


@pytest.mark.parametrize(("action", "where"), list(product(ACTIONS, RESOURCES)))
def test_somebody_without_grants_may_nothing(action: Action, where: str) -> None:
    assert not may(Principal("nobody"), action, RESOURCES[where])


def test_grants_add_up_but_do_not_mix() -> None:
    """fault 57: to see everything and to operate one workflow is not to operate everything."""
    ann = Principal("ann", (Grant("viewer"), Grant("operator", workflow="sales")))

    assert may(ann, "read", OTHER)
    assert may(ann, "cancel", SALES)
    assert not may(ann, "cancel", OTHER)
    assert not may(ann, "register", SALES)


def test_only_an_unrestricted_grant_sees_everything() -> None:
    assert Principal("ann", (Grant("viewer"),)).sees_everything
    assert not Principal("ann", (Grant("admin", workflow="sales"), Grant("admin", tag="x"))).sees_everything
    assert not Principal("ann").sees_everything
