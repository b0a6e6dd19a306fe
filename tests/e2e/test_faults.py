"""Accidents on the deployed engine: what is lost is repaired, what comes twice changes nothing, and nothing runs twice."""

import json
import random
import threading
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from shared.events import AttemptClaimed
from shared.ids import RunId
from tests.e2e.deployed import FUNCTIONS, Deployed
from tests.e2e.documents import container, noted, script, steps, workflow

pytestmark = pytest.mark.slow

AFTER_EVERY_POLL = timedelta(minutes=25)
"""By then every kind of target has been asked how an attempt goes, whatever anybody told."""
AFTER_A_CLAIM = timedelta(minutes=8)
"""By then a claim has lapsed, and what was not found then has been missing long enough to be looked for again."""
AFTER_HANDOVER = timedelta(minutes=15)
"""By then what was handed over and lost is handed over again."""
POISON = ("{", "null", "[[1]]", "words")
LATER_MAX = 20
KINDS = {"RunTask": "ecs", "SendCommand": "ssm", "RunJobFlow": "emr"}


def job_of(kind: str, name: str, line: str, folder: Path, **fields: Any) -> dict[str, Any]:
    match kind:
        case "ecs":
            return container(name, line, **fields)
        case "emr":
            return steps(name, line, **fields)
        case _:
            return script(name, line, guards=folder / "guards", **fields)


def every_kind(name: str, folder: Path, **fields: Any) -> dict[str, Any]:
    """A chain of one job of each kind, each of which notes that it ran."""
    return workflow(
        name,
        container("task", noted(folder)),
        # EMR gives its steps no environment.
        steps("cluster", f"echo 1 >> {folder}/cluster", after=["task"]),
        script("host", noted(folder), guards=folder / "guards", after=["cluster"]),
        **fields,
    )


def assert_each_ran_once(folder: Path, *jobs: str) -> None:
    assert {job: (folder / job).read_text() for job in jobs} == dict.fromkeys(jobs, "1\n")


def swept_until_ended(deployed: Deployed, run: RunId, later: timedelta, seconds: float = 90) -> dict[str, Any]:
    """Let sweeps come, one after the other, until the run has ended."""
    deadline = time.monotonic() + seconds
    ahead = later
    while (state := deployed.state(run)) is None or not state.finished:
        assert time.monotonic() < deadline, deployed.shown(run)["jobs"]
        deployed.sweep_later(ahead)
        ahead += later
        deployed.settled()
    return deployed.shown(run)


def worked_until_ended(deployed: Deployed, run: RunId, later: timedelta) -> dict[str, Any]:
    """Let a dispatcher look at the run time and again, each time so much later, until it has ended."""
    ahead = later
    while (state := deployed.state(run)) is None or not state.finished:
        assert ahead < LATER_MAX * later, deployed.shown(run)["jobs"]
        deployed.work_later(run, ahead)
        ahead += later
        deployed.settled()
    return deployed.shown(run)


def all_set_aside(deployed: Deployed, queue: str) -> bool:
    return set(POISON) <= set(deployed.letters(f"{queue}-dead"))


def executions(deployed: Deployed, operation: str, run: RunId) -> int:
    """How often a service has done what it was asked for in the name of this run."""
    services = deployed.compute
    match operation:
        case "RunTask":
            asked: list[Any] = [task.facts for task in services.ecs.tasks.values()]
        case "RunJobFlow":
            asked = [cluster.request for cluster in services.emr.clusters.values()]
        case _:
            asked = [command.facts for command in services.ssm.commands.values()]
    return sum(run in json.dumps(one, default=str) for one in asked)


# --- messages -------------------------------------------------------------------------------------------------------------


def test_a_poison_message_ends_with_the_dead_letters_and_holds_up_nobody(deployed: Deployed) -> None:
    """Fault 45."""
    as_deployed = partial(deployed.shown_again_at_once, receives_max=None)
    with as_deployed("effects"), as_deployed("reports"):
        for queue in ("effects", "reports"):
            for body in POISON:
                deployed.send(queue, body)
        (shown,) = deployed.ended(deployed.run(workflow("beside-poison", container("a", "true"))))
        assert shown["status"] == "succeeded"
        for queue in ("effects", "reports"):
            deployed.until(partial(all_set_aside, deployed, queue), f"{queue} are set aside")
    for queue in ("effects-dead", "reports-dead"):
        deployed.client("sqs").purge_queue(QueueUrl=deployed.queue_url(queue))


def test_dead_letters_of_a_broken_release_are_redriven_when_it_is_mended(deployed: Deployed, tmp_path: Path) -> None:
    name = deployed.register(workflow("redriven", container("a", noted(tmp_path))))
    deployed.settled()
    # To the end: whoever mends a function ends what it is doing, and its messages must come again.
    with deployed.shown_again_at_once("effects", receives_max=None):
        with deployed.broken("dispatch", RUNFOLD_STAGE=None):
            run = deployed.ask(name)
            deployed.until(lambda: deployed.messages("effects-dead"), "the message is set aside")
            assert deployed.shown(run)["jobs"]["a"]["status"] == "queued"
        deployed.redrive("effects")
        (shown,) = deployed.ended(run)
        deployed.settled()
    assert shown["status"] == "succeeded"
    assert deployed.messages("effects-dead") == 0
    assert_each_ran_once(tmp_path, "a")


def test_a_lost_record_of_the_tables_stream_is_repaired_by_the_sweep(deployed: Deployed) -> None:
    """Fault 46: the relay told nobody of what happened meanwhile, and never will."""
    name = deployed.register(workflow("unseen", container("a", "true")))
    deployed.settled()
    with deployed.broken("relay", RUNFOLD_VIEWS_TABLE="nowhere"):
        run = deployed.ask(name)
        deployed.ended(run)
        # The emulator loses records that a handler reports as failed; AWS would keep trying.
        deployed.settled()
    assert deployed.parts.views.get_run(run) is None
    deployed.sweep_later(AFTER_HANDOVER)
    row = deployed.parts.views.get_run(run)
    assert row is not None
    assert row.status == "succeeded"
    assert deployed.parts.dues.get(f"run#{run}") is None  # type: ignore[arg-type]


# --- processes that end -----------------------------------------------------------------------------------------------------


def killed_around_its_request(
    deployed: Deployed, folder: Path, moment: Literal["before", "instead", "after"], repaired_by: str
) -> None:
    kill = deployed.emulator.kill_function
    deployed.compute.moments[(moment, "RunTask")] = lambda: kill(deployed.function("dispatch"))
    document = workflow(f"killed-{moment}-{repaired_by}", container("a", noted(folder)))
    if repaired_by == "redelivery":
        with deployed.shown_again_at_once("effects"):
            run = deployed.run(document)
            deployed.ended(run)
    else:
        run = deployed.run(document)
        deployed.until(lambda: not deployed.compute.moments, "it is killed")
        deployed.client("sqs").purge_queue(QueueUrl=deployed.queue_url("effects"))
        swept_until_ended(deployed, run, AFTER_HANDOVER)
    assert_each_ran_once(folder, "a")
    assert executions(deployed, "RunTask", run) == 1


@pytest.mark.parametrize("repaired_by", ["redelivery", "sweep"])
def test_a_dispatcher_killed_after_the_intent_and_before_its_request_starts_the_task_after_all(
    deployed: Deployed, tmp_path: Path, repaired_by: str
) -> None:
    """Fault 1: that the attempt is queued is written down, and nobody has ever asked for it."""
    killed_around_its_request(deployed, tmp_path, "instead", repaired_by)


@pytest.mark.parametrize("repaired_by", ["redelivery", "sweep"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_dispatcher_killed_around_its_request_repeats_and_loses_nothing(
    deployed: Deployed, tmp_path: Path, moment: Literal["before", "after"], repaired_by: str
) -> None:
    """Faults 4 and 58: the task is started, whether its dispatcher was killed before that or after."""
    killed_around_its_request(deployed, tmp_path, moment, repaired_by)


@pytest.mark.parametrize("operation", ["SendCommand", "RunJobFlow"])
@pytest.mark.parametrize("request_is", ["never sent", "carried out"])
def test_a_claimer_killed_between_claim_and_answer_leaves_one_execution(
    deployed: Deployed, tmp_path: Path, operation: str, request_is: str
) -> None:
    """Faults 1 and 4, without a token and without any word from the target: whoever looks finds the one that there is and binds it,
    or finds none, twice, and claims the attempt for itself."""
    deployed.compute.faults.events_lost = True
    moment: Literal["before", "instead"] = "instead" if request_is == "never sent" else "before"
    kill = deployed.emulator.kill_function
    deployed.compute.moments[(moment, operation)] = lambda: kill(deployed.function("dispatch"))
    job = job_of(KINDS[operation], "a", f"echo 1 >> {tmp_path}/a", tmp_path)
    run = deployed.run(workflow(f"claimed-{request_is.replace(' ', '-')}-{operation.lower()}", job))
    deployed.until(lambda: not deployed.compute.moments, "it is killed")
    # Nothing is left of it but the claim.
    deployed.client("sqs").purge_queue(QueueUrl=deployed.queue_url("effects"))
    assert deployed.shown(run)["jobs"]["a"]["attempts"][-1]["status"] == "claimed"
    shown = worked_until_ended(deployed, run, AFTER_A_CLAIM)
    assert shown["status"] == "succeeded", shown
    assert len(shown["jobs"]["a"]["attempts"]) == 1
    assert executions(deployed, operation, run) == 1
    assert_each_ran_once(tmp_path, "a")
    claims = [event for event in deployed.events(run) if isinstance(event, AttemptClaimed)]
    assert len(claims) == (2 if request_is == "never sent" else 1)
    assert len({claim.claimer for claim in claims}) == len(claims)


@pytest.mark.parametrize("operation", ["SendCommand", "RunJobFlow"])
def test_a_dispatcher_killed_after_a_request_without_token_finds_what_it_started(
    deployed: Deployed, tmp_path: Path, operation: str
) -> None:
    """Faults 4 and 58."""
    kill = deployed.emulator.kill_function
    deployed.compute.moments[("after", operation)] = lambda: kill(deployed.function("dispatch"))
    job = job_of(KINDS[operation], "a", f"echo 1 >> {tmp_path}/a; sleep 0.5", tmp_path)
    with deployed.shown_again_at_once("effects"):
        (shown,) = deployed.ended(deployed.run(workflow(f"killed-{operation.lower()}", job)), seconds=240)
    assert shown["status"] == "succeeded", shown
    assert_each_ran_once(tmp_path, "a")


def test_functions_killed_at_any_moment_repeat_and_lose_nothing(deployed: Deployed, tmp_path: Path) -> None:
    """Fault 58."""
    chance = random.Random(58)
    jobs = [
        container(f"job-{number}", noted(tmp_path), after=[f"job-{number - 3}"] if number > 3 else [])
        for number in range(1, 13)
    ]
    name = deployed.register(workflow("hunted", *jobs))
    enough = threading.Event()

    def hunt() -> None:
        while not enough.wait(chance.uniform(0.1, 0.8)):
            deployed.emulator.kill_function(deployed.function(chance.choice(["dispatch", "status", "relay"])))

    hunter = threading.Thread(target=hunt)
    with deployed.shown_again_at_once("effects"), deployed.shown_again_at_once("reports"):
        hunter.start()
        try:
            run = deployed.ask(name)
            time.sleep(8)
        finally:
            enough.set()
            hunter.join()
        shown = swept_until_ended(deployed, run, AFTER_HANDOVER, seconds=150)
    assert shown["status"] == "succeeded", shown
    assert_each_ran_once(tmp_path, *(job["name"] for job in jobs))


# --- requests whose answer is lost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", KINDS)
def test_a_request_that_was_carried_out_but_not_answered_is_not_repeated(
    deployed: Deployed, tmp_path: Path, operation: str
) -> None:
    """Faults 2 and 17."""
    deployed.compute.faults.silent = {operation: 1}
    # Only what ends after the doubt was recorded can be told of.
    job = job_of(KINDS[operation], "a", f"echo 1 >> {tmp_path}/a; sleep 1", tmp_path)
    (shown,) = deployed.ended(deployed.run(workflow(f"silent-{operation.lower()}", job)), seconds=240)
    assert shown["status"] == "succeeded", shown
    assert_each_ran_once(tmp_path, "a")


def test_a_service_that_is_down_for_a_while_loses_no_run(deployed: Deployed, tmp_path: Path) -> None:
    """Fault 60."""
    deployed.compute.faults.broken = {"RunTask": 8}
    run = deployed.run(workflow("down", container("a", noted(tmp_path))))
    deployed.settled()
    shown = swept_until_ended(deployed, run, AFTER_HANDOVER)
    assert shown["status"] == "succeeded"
    assert_each_ran_once(tmp_path, "a")


# --- what targets tell ------------------------------------------------------------------------------------------------------


ACCIDENTS: dict[str, dict[str, Any]] = {
    "twice": {"events_twice": True},
    "newest first": {"events_reversed": 2},
    "twice and newest first": {"events_twice": True, "events_reversed": 6},
}


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_state_changes_told_twice_or_in_the_wrong_order_change_nothing(
    deployed: Deployed, tmp_path: Path, accident: str
) -> None:
    """Faults 31 and 32."""
    deployed.compute.faults.change(ACCIDENTS[accident])
    run = deployed.run(every_kind(f"told-{accident.replace(' ', '-')}", tmp_path))
    shown = swept_until_ended(deployed, run, AFTER_EVERY_POLL) if accident != "twice" else deployed.ended(run)[0]
    assert shown["status"] == "succeeded", shown
    assert_each_ran_once(tmp_path, "task", "cluster", "host")


def test_without_any_state_change_polls_find_every_end(deployed: Deployed, tmp_path: Path) -> None:
    """Fault 21."""
    deployed.compute.faults.events_lost = True
    run = deployed.run(every_kind("untold", tmp_path))
    deployed.settled()
    shown = swept_until_ended(deployed, run, AFTER_EVERY_POLL)
    assert shown["status"] == "succeeded", shown
    assert_each_ran_once(tmp_path, "task", "cluster", "host")


@pytest.mark.parametrize("code", [0, 3])
def test_an_end_that_is_lost_for_ever_is_found_by_looking(deployed: Deployed, tmp_path: Path, code: int) -> None:
    """Fault 34: that it runs was told, and of its end nobody will ever hear."""
    deployed.compute.faults.events_lost_that_say = ["STOPPED"]
    run = deployed.run(workflow(f"end-untold-{code}", container("a", f"{noted(tmp_path)}; exit {code}")))
    deployed.until((tmp_path / "a").exists, "it runs")
    deployed.settled()
    state = deployed.state(run)
    assert state is not None
    assert not state.finished
    shown = swept_until_ended(deployed, run, AFTER_EVERY_POLL)
    (attempt,) = shown["jobs"]["a"]["attempts"]
    assert (shown["status"], attempt["exit_code"]) == ("failed" if code else "succeeded", code)
    assert_each_ran_once(tmp_path, "a")
    told = [event["detail"]["lastStatus"] for event in deployed.compute.events.sent if run in json.dumps(event)]
    assert "RUNNING" in told
    assert "STOPPED" not in told


def test_fifty_repetitions_foreign_work_and_unknown_words_change_nothing(deployed: Deployed, tmp_path: Path) -> None:
    """Faults 32, 33 and 35."""
    run = deployed.run(every_kind("repeated", tmp_path))
    deployed.ended(run)
    deployed.settled()
    before = deployed.records(f"run#{run}")  # type: ignore[arg-type]
    told = [
        event for event in deployed.compute.events.sent if run in json.dumps(event) or "STOPPED" in json.dumps(event)
    ][-12:]
    foreign = json.loads(json.dumps(told[-1]).replace("runfold", "foreign"))
    unknown = {
        **told[-1],
        "detail": {**told[-1]["detail"], "lastStatus": "LEVITATING", "status": "Floating", "new": [{}]},
    }
    for event in [*told * 5, foreign, unknown]:
        for listener in deployed.compute.events.listeners:
            listener(event)
    deployed.settled()
    assert deployed.records(f"run#{run}") == before  # type: ignore[arg-type]
    assert deployed.messages("reports-dead") == 0


# --- a new release ----------------------------------------------------------------------------------------------------------


def test_a_stack_update_with_runs_in_flight_disturbs_none_of_them(deployed: Deployed, tmp_path: Path) -> None:
    waits = f"{noted(tmp_path)}; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    document = workflow("updated", container("a", waits), container("b", noted(tmp_path), after=["a"]))
    run = deployed.run(document)
    deployed.job_is(run, "a", "submitted", "running")
    client = deployed.client("lambda")

    def code_of(name: str) -> str:
        return str(client.get_function_configuration(FunctionName=deployed.function(name))["CodeSha256"])

    before = {name: code_of(name) for name in FUNCTIONS}
    deployed.release()
    assert all(code_of(name) != before[name] for name in FUNCTIONS)
    (tmp_path / "go").touch()
    later = deployed.ask("updated")
    shown, after = deployed.ended(run, later)
    assert (shown["status"], after["status"]) == ("succeeded", "succeeded")
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "1\n1\n"
