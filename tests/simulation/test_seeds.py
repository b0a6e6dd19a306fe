"""The seeds that every change must pass, and that they reach what is rare: a branch that no seed takes is a branch that nothing here proves."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MEASURED
from tests.simulation.deployment import RESTORE
from tests.simulation.models import ecs, emr, ssm
from tests.simulation.play import LIKELY, OF_STOPS, OF_TARGETS, OUTAGES

ROOT = Path(__file__).parents[2]
SEEDS = int(os.environ.get("RUNFOLD_SEEDS", "200"))
SECONDS_MAX = 900
SOMETIMES = (
    "a conflict",
    "a person had to ask again",
    "an event was set aside",
    "read a moment too early",
    "the index of due rows lagged",
    "an older release met a newer event",
    "a dead letter of effects",
    "a dead letter of reports",
)
"""Branches of ours that only bad luck reaches."""
EVENTS = (
    "AttemptCancelled",
    "AttemptClaimed",
    "AttemptDoubted",
    "AttemptFailed",
    "AttemptStarted",
    "ClaimReleased",
    "ItemsExpanded",
    "ItemsJoined",
    "ItemsSettled",
    "JobMarked",
    "JobSettled",
    "LateReported",
    "PlaceGranted",
    "PlaceReleased",
    "PlaceWithdrawn",
    "RunCancelRequested",
    "RunReopened",
    "StartAsked",
    "StopRequested",
    "StopSent",
)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS_MAX)
def test_every_seed_keeps_every_promise_and_what_is_rare_is_reached(
    record_property: Callable[[str, object], None],
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.simulation", str(SEEDS), "1"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    missing = [
        name for name in (*injected(), *SOMETIMES, *EVENTS) if not re.search(rf"\W{re.escape(name)}\W", ended.stdout)
    ]
    assert missing == [], f"never reached: {missing}"
    record_property(MEASURED, ended.stdout)


def injected() -> list[str]:
    """Every fault that a play may have; each must have struck, or it proves nothing."""
    of_targets = [f"{service} {what}" for service in ("ecs", "emr", "ssm") for what in OF_TARGETS]
    # Those that only a stop can meet are too few to count on; the models' own tests reach them.
    of_models = {*ecs.FAULTS, *emr.FAULTS, *ssm.FAULTS} - set(OF_STOPS)
    return [*(set(LIKELY) - {"clocks differ"}), *OUTAGES, RESTORE, *of_targets, *sorted(of_models)]
