"""Many runs at once on the deployed engine: every job of every run exactly once, and nothing left over."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import MEASURED
from tests.e2e.deployed import Deployed
from tests.e2e.documents import container, workflow

pytestmark = pytest.mark.slow

RUNS = int(os.environ.get("RUNFOLD_E2E_RUNS", "50"))
"""`make soak` asks for 500."""
JOBS = 10
SECONDS_A_RUN = 6.0


@pytest.mark.timeout(300 + RUNS * SECONDS_A_RUN)
def test_many_runs_at_once_do_every_job_once(
    deployed: Deployed, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    notes = tmp_path / "notes"
    # Appending less than a block is atomic, so that one file does for all.
    line = f'echo "$RUNFOLD_RUN $RUNFOLD_JOB" >> {notes}'
    middle = [container(f"job-{number}", line, after=["job-1"]) for number in range(2, JOBS)]
    last = container(f"job-{JOBS}", line, after=[job["name"] for job in middle])
    name = deployed.register(workflow("many", container("job-1", line), *middle, last))
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: deployed.ask(name), range(RUNS)))
    ended = deployed.ended(*runs, seconds=60 + RUNS * SECONDS_A_RUN)
    seconds = time.monotonic() - began
    record_property(
        MEASURED,
        f"{RUNS} runs of {JOBS} jobs in the emulator: {seconds:.0f} s, {RUNS * JOBS / seconds:.1f} jobs a second",
    )
    assert {shown["status"] for shown in ended} == {"succeeded"}
    expected = sorted(f"{run} job-{number}" for run in runs for number in range(1, JOBS + 1))
    assert sorted(notes.read_text().splitlines()) == expected
    deployed.settled()
    assert deployed.set_aside() == {}
