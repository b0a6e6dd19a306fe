"""The engine's steady clock: graces of stops are measured on it, and it tells when the wall clock was set."""

import logging
from datetime import timedelta

import pytest

from local.engine import SteadyClock
from tests.engine.fakes import NOON


class Clocks:
    def __init__(self) -> None:
        self.wall, self.monotonic = NOON, 1000.0
        self.steady = SteadyClock(lambda: self.wall, lambda: self.monotonic)

    def pass_seconds(self, seconds: float, *, set_by: float = 0.0) -> None:
        self.monotonic += seconds
        self.wall += timedelta(seconds=seconds + set_by)


def test_a_clock_that_is_set_back_goes_on_as_before_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    clocks.pass_seconds(10, set_by=-3600)
    assert clocks.steady() == NOON + timedelta(seconds=10)
    clocks.pass_seconds(2)
    assert clocks.steady() == NOON + timedelta(seconds=12)
    (told,) = caplog.messages
    assert told.startswith("the clock was set back by 3600 s: schedules")


def test_a_clock_that_is_set_forward_is_followed_and_told(caplog: pytest.LogCaptureFixture) -> None:
    clocks = Clocks()
    clocks.pass_seconds(1, set_by=3600)
    assert clocks.steady() == NOON + timedelta(seconds=3601)
    (told,) = caplog.messages
    assert told.startswith("the clock was set forward by 3600 s, or the machine slept")


def test_a_clock_that_is_only_kept_right_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    clocks = Clocks()
    for set_by in (0.5, -0.5, 0.0):
        clocks.pass_seconds(60, set_by=set_by)
        clocks.steady()
    assert caplog.messages == []
