"""Afterwards: is the history whole, and does it tell what the programs did? Each problem is one sentence.

The ledger is written by the programs themselves, so it knows of a second start, of a start that no history knows, and of work that
was said to be done and was not.
"""

from collections import defaultdict
from datetime import datetime, timedelta
from itertools import pairwise

from shared.ids import WorkflowName, run_stream, workflow_stream
from shared.state.run import Attempt, Run
from tests.torture.ground import Ground, Key

PROBLEMS_SHOWN = 20
_KILLED_CODES = frozenset({137, 143})


def audit(ground: Ground) -> list[str]:
    """Everything that does not hold. Every run must have ended, and the engine must be away."""
    problems = [f"runfold verify says: {line}" for line in _verified(ground)]
    begun: dict[Key, int] = defaultdict(int)
    ended: dict[Key, list[int | None]] = defaultdict(list)
    for line in ground.lines():
        if line.word == "begin":
            begun[line.key] += 1
        else:
            ended[line.key].append(line.code)
    problems += [f"{key} began {times} times" for key, times in begun.items() if times > 1]
    known = set()
    for run in ground.runs():
        state = ground.run(run)
        if state is None or not state.finished:
            problems.append(f"{run} has not ended")
            continue
        for name, job in state.jobs.items():
            for attempt in job.attempts:
                key = Key(run, name, attempt.attempt)
                known.add(key)
                if wrong := _contradiction(ground, attempt, key, begun[key], ended[key]):
                    problems.append(f"{key}: {wrong}")
    problems += [f"{key} ran, and no history knows it" for key in begun if key not in known and begun[key]]
    problems += [f"{run} was acknowledged and is lost" for run in sorted(ground.asked - set(ground.runs()))]
    problems += _times_that_go_back(ground)
    problems += _cries(ground)
    return problems


def _verified(ground: Ground) -> list[str]:
    answer = ground.call("verify", seconds=300)
    return [] if answer.code == 0 else (answer.out + answer.error).splitlines()[:PROBLEMS_SHOWN]


def _contradiction(ground: Ground, attempt: Attempt, key: Key, begun: int, ended: list[int | None]) -> str | None:
    told = f"{attempt.status} ({attempt.reason}), and its program began {begun} times and ended with {ended}"
    if attempt.assumed or attempt.status == "abandoned":
        # Only when its wrapper was killed can the exit code be lost.
        return None if key in ground.wrappers_killed else f"in doubt for no reason: {told}"
    match attempt.status:
        case "succeeded":
            return None if (begun, ended) == (1, [0]) else told
        case "failed" if attempt.failure == "user":
            if attempt.exit_code in _KILLED_CODES and key in ground.programs_killed:
                return None
            return None if begun == 1 and ended == [attempt.exit_code] else told
        case "failed":
            # The machine's fault: then the program must not have begun.
            return None if not begun else told
        case _:
            # It may have come to any point when it was ended.
            return None


def _times_that_go_back(ground: Ground) -> list[str]:
    streams = [run_stream(run) for run in ground.runs()]
    rows, _ = ground.parts.views.workflows(limit=1000)
    streams += [workflow_stream(row.workflow) for row in rows]
    return [
        f"{stream}: commit {later.version} is of {later.at}, before {earlier.at}"
        for stream in streams
        for earlier, later in pairwise(ground.parts.loader.records(stream))
        if later.at < earlier.at
    ]


def _cries(ground: Ground) -> list[str]:
    """Lines by which the engine says that it met a bug of its own."""
    bad = ("Traceback", "bug of Runfold", "is left alone", " fails")
    return [f"the engine said: {line}" for line in ground.said().splitlines() if any(word in line for word in bad)]


def instants(ground: Ground, workflow: str) -> list[datetime]:
    """Of the workflow's scheduled runs, in order; one that comes twice is there twice."""
    found = []
    for run in ground.runs():
        state = ground.run(run)
        if isinstance(state, Run) and state.request.workflow == workflow and state.request.scheduled_at is not None:
            found.append(state.request.scheduled_at)
    return sorted(found)


def dense(ground: Ground, workflow: str, every: timedelta) -> list[str]:
    """Instants that are missing, or twice."""
    there = instants(ground, workflow)
    wrong = [(earlier, later) for earlier, later in pairwise(there) if later - earlier != every]
    return [f"{workflow}: {earlier} is followed by {later}" for earlier, later in wrong]


def attempts_of(ground: Ground) -> list[Attempt]:
    return [
        attempt
        for run in ground.runs()
        if (state := ground.run(run)) is not None
        for job in state.jobs.values()
        for attempt in job.attempts
    ]


def doubts_of(ground: Ground) -> int:
    """Attempts that the history calls in doubt, whatever became of them."""
    return sum(
        record.body.count('"AttemptDoubted"')
        for run in ground.runs()
        for record in ground.parts.loader.records(run_stream(run))
    )


def holders(ground: Ground, workflow: str) -> int:
    """Runs that the workflow counts as active."""
    return len(ground.parts.loader.workflow(WorkflowName(workflow)).holders)
