"""What an executor owes (`shared.ports.Executor`), kept by the one on SSM with real shells, with the faults of FAULTS.md that are its."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.executors.aws_events import AwsEvents
from shared.executors.ssm import SsmExecutor, SsmHost, SsmSettings
from shared.ids import Handle
from shared.ports import Executor, Report, Request
from tests.compute import Compute
from tests.compute.ssm import Host
from tests.contract.aws_targets import BUCKET, World, client, now, timeless, workspace

pytestmark = pytest.mark.slow  # real HTTP, real processes: half a minute in all

ONE = "i-0123456789abcdef0"
TWO = "i-0123456789abcdef1"
ELSEWHERE = "mi-0123456789abcdef2"
SECRET_ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:db-password"


class SsmWorld(World):
    kind = "ssm"

    def __init__(self, compute: Compute) -> None:
        self.hosts = compute.directory / "hosts"
        self.compute = compute
        self.again()

    def again(self, *, files: bool = True, clock: Any = now) -> None:
        hosts = {"warehouse": SsmHost(ONE), "far": SsmHost(ELSEWHERE), "web": SsmHost(tags={"role": "web"})}
        settings = SsmSettings(hosts=hosts)
        space = workspace(self.compute) if files else None
        self.executor = SsmExecutor(client(self.compute, "ssm"), settings, space, now=clock)

    def shell(self, *lines: str, args: Any = (), **more: Any) -> Request:
        if not {"host", "hosts", "tag"} & set(more):
            more["host"] = "warehouse"
        return self.request(commands=list(lines), args=list(args), **more)

    def guard(self, request: Request, host: str = ONE) -> Path:
        return self.hosts / host / request.token

    def begun(self, request: Request) -> None:
        self.until((self.guard(request) / "job").exists)

    def sent(self, comment: str) -> int:
        return sum(one.facts["Comment"] == comment for one in self.compute.ssm.commands.values())


@pytest.fixture
def world() -> Iterator[SsmWorld]:
    with Compute() as compute:
        compute.ssm.hosts = {ONE: Host({"role": "web"}), TWO: Host({"role": "web", "zone": "b"}), ELSEWHERE: Host()}
        compute.ecs.secrets[SECRET_ARN] = "correct-horse"
        world = SsmWorld(compute)
        yield world
        # What a host runs outlives its agent, and so this test.
        for file in world.hosts.glob("*/*/pid"):
            if not (file.parent / "exit").exists():
                try:
                    os.killpg(int(file.read_text()), signal.SIGKILL)
                except (ProcessLookupError, ValueError):
                    continue


def test_it_keeps_the_protocol(world: SsmWorld) -> None:
    executor: Executor = world.executor
    assert not executor.takes_token
    with pytest.raises(ValueError, match="no token"):
        SsmExecutor(client(world.compute, "ssm", harmless=True), SsmSettings(), None, now=now)


@pytest.mark.parametrize("code", [0, 1, 7])
def test_the_exit_code_is_reported(world: SsmWorld, code: int) -> None:
    report = world.run(world.shell(f"exit {code}"))
    assert (report.status, report.exit_code) == (("failed", code) if code else ("succeeded", 0)), report
    assert report.failure == ("user" if code else None)
    assert report.started_at is not None
    assert report.ended_at is not None


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_it_runs_in_the_shells_that_hosts_have(world: SsmWorld, shell: str) -> None:
    words = shell.split()
    if shutil.which(words[0]) is None:
        pytest.skip(f"this machine has no {words[0]}")
    world.compute.ssm.shell = words
    request = world.shell(
        'echo "$1"', "echo '{\"n\": 1}' >$RUNFOLD_OUTPUTS", ": >f", args=["a b"], outputs=[{"path": "f"}]
    )
    report = world.run(request)
    assert (report.status, report.outputs, list(report.files)) == ("succeeded", {"n": 1}, ["f"])
    stop = world.shell("sleep 30", attempt=2)
    handle = world.executor.start(stop)
    world.begun(stop)
    world.executor.stop(world.reference(stop, handle), grace_seconds=5)
    assert world.end(stop, handle).exit_code == 143


def test_194_never_reboots_a_host_and_is_still_reported(world: SsmWorld) -> None:  # fault 25
    request = world.shell('echo run >>"$RUNFOLD_OUTPUTS.runs"; exit 194')
    report = world.run(request)
    assert (report.status, report.exit_code) == ("failed", 194)
    assert (world.guard(request) / "work/outputs.json.runs").read_text() == "run\n"


def test_hostile_values_arrive_as_they_are(world: SsmWorld, tmp_path: Path) -> None:  # fault 53
    hostile = "$(touch no) `id`; rm -rf / '\" {{ssm:secret}} {{{ }}\n\\ %s"
    request = world.shell(
        f'printf %s "$1" >{tmp_path}/arg',
        f'printf %s "$VALUE" >{tmp_path}/variable',
        args=[hostile],
        environment={"VALUE": hostile},
    )
    assert world.run(request).status == "succeeded"
    assert (tmp_path / "arg").read_text() == hostile
    assert (tmp_path / "variable").read_text() == hostile


def test_what_a_job_sees_is_what_it_was_promised(world: SsmWorld, tmp_path: Path) -> None:
    script = tmp_path / "extract.sh"
    script.write_text(
        f'#!/bin/sh\necho "$RUNFOLD_RUN $RUNFOLD_JOB $RUNFOLD_ATTEMPT $RUNFOLD_WORKFLOW $PWD $1" >{tmp_path}/seen\n'
    )
    script.chmod(0o755)
    request = world.request(host=ONE, script=str(script), args=["2026"], working_directory=str(tmp_path))
    assert world.run(request).status == "succeeded"
    assert (tmp_path / "seen").read_text() == f"nightly@2026-11-22T02:00:00Z load 1 nightly {tmp_path} 2026\n"


def test_a_variable_named_path_changes_the_job_and_not_what_runs_it(world: SsmWorld) -> None:
    assert world.run(world.shell('[ "$PATH" = /nowhere ]', environment={"PATH": "/nowhere"})).status == "succeeded"


def test_secrets_are_fetched_on_the_host_and_stand_in_no_command(world: SsmWorld) -> None:  # I13
    report = world.run(
        world.shell('[ ${#PASSWORD} = 13 ] && [ "${PASSWORD#correct}" = -horse ]', secrets={"PASSWORD": SECRET_ARN})
    )
    assert report.status == "succeeded", report
    assert not any("correct-horse" in str(one.facts) for one in world.compute.ssm.commands.values())


def test_both_timeouts_and_the_token_are_said_explicitly(world: SsmWorld) -> None:
    request = world.shell("exit 0")
    facts = world.compute.ssm.commands[world.executor.start(request)].facts
    assert facts["Comment"] == request.token
    assert facts["TimeoutSeconds"] == 600
    assert facts["Parameters"]["executionTimeout"] == ["172800"]


# --- delivery -----------------------------------------------------------------------------------------------------------


def test_a_send_that_was_done_and_not_answered_is_found_by_its_comment(world: SsmWorld) -> None:
    world.compute.faults.silent = {"SendCommand": 1}
    request = world.shell("exit 3")
    with pytest.raises(TargetSilent):
        world.executor.start(request)
    world.again()
    report = world.until_status(request, None, "failed")
    assert report.exit_code == 3
    assert world.compute.calls.count("SendCommand") == 1
    assert world.look(world.shell("x", job="other")).status == "missing"


def test_the_heart_of_work_beats_while_it_runs(world: SsmWorld) -> None:
    request = world.shell("sleep 30")
    world.executor.start(request)
    beat = world.guard(request) / "beat"
    world.until(lambda: beat.exists() and beat.read_text().endswith("\n"))
    assert abs(int(beat.read_text()) - now().timestamp()) < 60


@pytest.mark.parametrize("delivered_again", [True, False])
def test_another_process_that_got_its_number_after_a_reboot_is_not_taken_for_the_work(
    world: SsmWorld, delivered_again: bool
) -> None:  # fault 24
    world.compute.faults.never_report = [] if delivered_again else [ONE]
    request = world.shell("sleep 30")
    handle = world.executor.start(request)
    world.begun(request)
    guard = world.guard(request)
    world.until((guard / "beat").exists)
    os.killpg(int((guard / "pid").read_text()), signal.SIGKILL)
    # As it stands after a reboot: no process of ours, a heartbeat of long ago, and somebody else who has the number.
    with subprocess.Popen(["sleep", "30"]) as other:
        for name, text in (("pid", f"{other.pid}\n"), ("beat", "1000000000\n")):
            (guard / "new").write_text(text)
            (guard / "new").rename(guard / name)
        if delivered_again:
            world.compute.ssm.restart_agent(handle, ONE)
        else:
            world.compute.ssm.commands[handle].invocations[ONE].facts |= {
                "Status": "TimedOut",
                "StatusDetails": "ExecutionTimedOut",
            }
        report = world.until(
            lambda: (told := world.look(request, handle)).status == "unknown" and "nobody saw" in told.reason and told
        )
        other.kill()
    assert report.handle == handle


def lost_send(world: SsmWorld, request: Request) -> Request:
    """Done, and nobody heard the answer."""
    world.compute.faults.silent = {"SendCommand": 1}
    with pytest.raises(TargetSilent):
        world.executor.start(request)
    return request


def others(world: SsmWorld, count: int, *, host: str, minutes: float = 0.0) -> None:
    """Commands of somebody else, that much later."""
    (one, *_) = world.compute.ssm.commands.values()
    for _ in range(count):
        number = f"other-{len(world.compute.ssm.commands)}"
        at = one.facts["RequestedDateTime"] + 60 * minutes
        facts = {**one.facts, "CommandId": number, "Comment": "theirs", "RequestedDateTime": at}
        world.compute.ssm.commands[number] = replace(one, facts=facts, invocations={host: one.invocations[ONE]})


@pytest.mark.parametrize("where", [{"host": "warehouse"}, {"tag": {"zone": "a"}}])
def test_a_command_is_found_behind_hundreds_of_others(world: SsmWorld, where: dict[str, Any]) -> None:
    world.compute.ssm.hosts[ONE].tags["zone"] = "a"
    request = lost_send(world, world.shell("exit 3", **where))
    others(world, 300, host=ONE)
    assert world.until_status(request, None, "failed").exit_code == 3


def test_on_a_host_of_its_own_a_command_is_found_whatever_goes_on_elsewhere(world: SsmWorld) -> None:
    request = lost_send(world, world.shell("sleep 30"))
    others(world, 2_100, host=TWO)
    world.compute.calls.clear()
    world.executor.stop(world.reference(request), grace_seconds=0)
    assert world.compute.calls.count("ListCommands") == 2
    assert world.sent(f"stop {request.token}") == 1


def test_commands_from_outside_the_time_of_the_claim_are_not_looked_through(world: SsmWorld) -> None:
    request = lost_send(world, world.shell("exit 3", tag={"zone": "b"}))
    (command,) = world.compute.ssm.commands.values()
    command.invocations[ONE] = command.invocations[TWO]
    others(world, 1_100, host=ONE, minutes=40)
    others(world, 1_100, host=ONE, minutes=-40)
    world.again(clock=lambda: now() + timedelta(hours=2))
    reference = replace(world.reference(request), asked_until=now())
    world.compute.calls.clear()
    assert world.executor.observe([reference])[0].status != "missing"
    assert world.compute.calls.count("ListCommands") == 2


def test_a_command_that_too_much_stands_before_is_not_declared_lost(world: SsmWorld) -> None:
    request = lost_send(world, world.shell("exit 0"))
    others(world, 2_001, host=ONE)
    report = world.look(request)
    assert (report.status, report.cut_short) == ("unknown", True)
    assert "40 pages" in report.reason
    with pytest.raises(TargetUnavailable, match="cannot find"):
        world.executor.stop(world.reference(request), grace_seconds=1)


def test_a_search_that_takes_too_long_is_not_declared_lost(world: SsmWorld) -> None:
    ticks = iter(range(0, 1_000, 15))
    hosts = SsmSettings(hosts={"warehouse": SsmHost(ONE)})
    slow = SsmExecutor(client(world.compute, "ssm"), hosts, None, now=now, clock=lambda: next(ticks))
    (report,) = slow.observe([world.reference(world.shell("exit 0"))])
    assert (report.status, report.cut_short) == ("unknown", True)


def test_a_command_that_is_not_to_be_seen_yet_is_missing_and_then_seen(world: SsmWorld) -> None:  # fault 27
    world.compute.faults.missing_seconds = 0.3
    request = world.shell("exit 0")
    handle = world.executor.start(request)
    assert world.look(request, handle).status == "missing"
    assert world.until_status(request, handle, "succeeded").handle == handle


def test_a_delivery_that_timed_out_is_looked_at_and_found_to_have_run(world: SsmWorld) -> None:  # fault 23
    world.compute.faults.delivery_times_out_after_running = [ONE]
    request = world.shell("echo '{\"n\": 1}' >$RUNFOLD_OUTPUTS", "exit 0")
    handle = world.executor.start(request)
    world.until((world.guard(request) / "exit").exists)
    report = world.until_status(request, handle, "unknown")
    assert "DeliveryTimedOut" in report.reason
    report = world.until_status(request, handle, "succeeded")
    assert report.outputs == {"n": 1}
    assert world.sent(f"look {request.token}") == 1


def test_a_host_that_has_done_a_lot_since_is_asked_all_the_same(world: SsmWorld) -> None:  # fault 23
    world.compute.faults.delivery_times_out_after_running = [ONE]
    request = world.shell("exit 0")
    handle = world.executor.start(request)
    world.until((world.guard(request) / "exit").exists)
    # Hours later, so that they lie between the command and now.
    world.again(clock=lambda: now() + timedelta(hours=5))
    others(world, 2_100, host=ONE, minutes=60)
    world.until_status(request, handle, "unknown")
    assert world.sent(f"look {request.token}") == 1


def test_a_delivery_that_timed_out_and_never_ran_never_will(world: SsmWorld) -> None:  # fault 23
    world.compute.faults.undelivered = [ONE]
    request = world.shell("exit 0")
    handle = world.executor.start(request)
    command = world.compute.ssm.commands[handle]
    world.compute.ssm._tell(command, command.invocations[ONE], "TimedOut", "DeliveryTimedOut")
    world.compute.faults.undelivered = []
    world.until_status(request, handle, "unknown")
    report = world.until_status(request, handle, "failed")
    assert report.failure == "infrastructure"
    # The host gets it after all.
    world.compute.ssm.restart_agent(handle, ONE)
    world.until(lambda: "exit 143" in _text(command.invocations[ONE].directory / "stdout"))
    assert not (world.guard(request) / "pid").exists()


def test_an_agent_that_restarts_neither_ends_nor_repeats_the_work(world: SsmWorld, tmp_path: Path) -> None:  # fault 24
    request = world.shell(f"echo once >>{tmp_path}/proof", "sleep 0.5", "exit 5")
    handle = world.executor.start(request)
    world.begun(request)
    world.compute.ssm.restart_agent(handle, ONE)
    report = world.end(request, handle)
    assert (report.status, report.exit_code) == ("failed", 5)
    assert (tmp_path / "proof").read_text() == "once\n"


def test_an_agent_that_never_says_anything_leaves_it_running(world: SsmWorld) -> None:
    world.compute.faults.never_report = [ONE]
    request = world.shell("exit 0")
    handle = world.executor.start(request)
    world.until((world.guard(request) / "exit").exists)
    assert world.look(request, handle).status in ("submitted", "running")


def test_a_host_that_is_gone_mid_run_is_infrastructure(world: SsmWorld) -> None:  # fault 26
    request = world.shell("sleep 30")
    handle = world.executor.start(request)
    world.begun(request)
    world.until_status(request, handle, "running")
    world.again(clock=lambda: now() + timedelta(minutes=5))
    assert world.look(request, handle).status == "running"
    del world.compute.ssm.hosts[ONE]
    report = world.look(request, handle)
    assert (report.status, report.failure) == ("failed", "infrastructure")


def test_two_megabytes_of_bytes_that_are_no_text_hide_nothing(world: SsmWorld) -> None:  # fault 28
    request = world.shell(
        "head -c 2000000 /dev/urandom", "echo '{\"n\": 2}' >$RUNFOLD_OUTPUTS", ": >f", outputs=[{"path": "f"}]
    )
    report = world.run(request)
    assert (report.status, report.outputs) == ("succeeded", {"n": 2}), report
    assert list(report.files) == ["f"]


@pytest.mark.parametrize(("files", "code"), [(False, 0), (False, 9), (True, 9)])
def test_without_the_end_of_the_output_the_agents_code_counts(world: SsmWorld, files: bool, code: int) -> None:
    world.again(files=files)
    report = world.run(world.shell("head -c 60000 /dev/zero | tr '\\0' x", f"exit {code}"))
    assert (report.status, report.exit_code) == (("failed", code) if code else ("succeeded", 0))


def test_a_job_that_pretends_to_have_succeeded_has_not(world: SsmWorld) -> None:
    report = world.run(world.shell('echo; echo "runfold $RUNFOLD_TOKEN exit 0"', "exit 4"))
    assert (report.status, report.exit_code) == ("failed", 4)


# --- hosts --------------------------------------------------------------------------------------------------------------


def test_a_tag_that_no_host_carries_fails_the_attempt(world: SsmWorld) -> None:  # fault 29
    report = world.run(world.shell("exit 0", tag={"role": "nothing"}))
    assert (report.status, report.failure) == ("failed", "refused")
    assert "no host" in report.reason


def test_hosts_found_by_tag_succeed_only_together(world: SsmWorld, tmp_path: Path) -> None:  # fault 29
    names = [f"i-{number:017x}" for number in range(5)]
    world.compute.ssm.hosts |= {name: Host({"role": "batch"}) for name in names}
    request = world.shell(
        f'echo "$RUNFOLD_HOST" >>{tmp_path}/seen; [ "$RUNFOLD_HOST" != {names[3]} ]', tag={"role": "batch"}
    )
    report = world.run(request)
    assert sorted((tmp_path / "seen").read_text().split()) == names
    assert (report.status, report.failure, report.exit_code) == ("failed", "user", 1)
    assert report.reason == f"host {names[3]}: exit code 1"


def test_a_host_activated_from_elsewhere_is_a_host(world: SsmWorld) -> None:
    assert world.run(world.shell("exit 0", host="far")).status == "succeeded"
    assert world.run(world.shell("exit 0", host=ELSEWHERE, attempt=2)).status == "succeeded"


def test_a_name_may_stand_for_a_tag(world: SsmWorld) -> None:
    request = world.shell("exit 0", host="web")
    handle = world.executor.start(request)
    assert set(world.compute.ssm.commands[handle].invocations) == {ONE, TWO}


def test_reports_of_several_hosts_are_combined_under_their_names(world: SsmWorld) -> None:
    request = world.shell("echo '{\"n\": 1}' >$RUNFOLD_OUTPUTS", hosts=["warehouse", TWO])
    report = world.run(request)
    assert report.status == "succeeded"
    assert set(report.outputs) == {"warehouse", TWO}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"host": "nobody"}, "no host 'nobody'"),
        ({"hosts": ["warehouse", "web"]}, "stands for tags"),
        ({"host": "i-0000000000000000a"}, "does not know"),
        ({"host": ONE, "args": ["x" * 70_000]}, "64,000"),
        ({"host": ONE, "args": ["a\0b"]}, "NUL"),
        ({"host": ONE, "secrets": {"A": "env:HOME"}}, "by ARN"),
        ({"host": ONE, "working_directory": "work"}, "begin with"),
    ],
)
def test_what_no_host_can_be_given_is_refused_in_a_sentence(world: SsmWorld, body: dict[str, Any], words: str) -> None:
    with pytest.raises(TargetRefused, match=words):
        world.executor.start(world.request(**{"commands": ["exit 0"], **body}))


def test_a_host_that_is_offline_gets_its_command_later(world: SsmWorld) -> None:
    world.compute.ssm.hosts[ONE].online = False
    with pytest.raises(TargetUnavailable, match="online"):
        world.executor.start(world.shell("exit 0"))


def test_throttling_gives_the_claim_back_and_a_broken_answer_does_not(world: SsmWorld) -> None:
    world.compute.faults.throttled = {"SendCommand": 1}
    with pytest.raises(TargetUnavailable):
        world.executor.start(world.shell("exit 0"))
    world.compute.faults.broken = {"SendCommand": 1}
    with pytest.raises(TargetSilent):
        world.executor.start(world.shell("exit 0"))
    world.compute.faults.broken = {"ListCommands": 1}
    assert world.executor.observe([world.reference(world.shell("x"), Handle("0" * 36))]) == []


# --- files --------------------------------------------------------------------------------------------------------------


def test_inputs_lie_there_and_outputs_are_kept(world: SsmWorld) -> None:
    world.compute.objects.put(f"{BUCKET}/given.txt", b"from s3")
    request = world.shell(
        "cat a.txt b/c.txt >report.csv && ./run.sh",
        inputs=[
            {"path": "a.txt", "content": "hello "},
            {"path": "b/c.txt", "s3": f"s3://{BUCKET}/given.txt"},
            {"path": "run.sh", "content": "#!/bin/sh\necho ran >ran.txt\n"},
        ],
        outputs=[{"path": "report.csv"}, {"path": "ran.txt"}, {"path": "perhaps", "optional": True}],
    )
    report = world.run(request)
    assert report.status == "succeeded", report
    assert sorted(report.files) == ["ran.txt", "report.csv"]
    assert world.compute.objects.get(report.files["report.csv"].removeprefix("s3://")) == b"hello from s3"


@pytest.mark.parametrize(
    ("text", "outputs", "words"),
    [
        ("exit 0", [{"path": "x"}], "x is missing"),
        ("ln -s /etc/passwd x", [{"path": "x"}], "x is missing"),
        ("echo nonsense >$RUNFOLD_OUTPUTS", [], "not JSON"),
        ("head -c 70000 /dev/zero >$RUNFOLD_OUTPUTS", [], "larger than"),
    ],
)
def test_a_success_that_left_the_wrong_things_behind_is_a_failure(
    world: SsmWorld, text: str, outputs: Any, words: str
) -> None:  # fault 55
    report = world.run(world.shell(text, outputs=outputs))
    assert (report.status, report.failure) == ("failed", "user")
    assert words in report.reason


def test_an_input_that_is_not_there_fails_before_the_job_begins(world: SsmWorld) -> None:
    request = world.shell("exit 0", inputs=[{"path": "a", "s3": f"s3://{BUCKET}/nowhere"}])
    report = world.run(request)
    assert (report.status, report.failure) == ("failed", "user")
    assert not (world.guard(request) / "pid").exists()


# --- stopping -----------------------------------------------------------------------------------------------------------


def test_a_stop_reaches_every_process_on_the_host(world: SsmWorld, tmp_path: Path) -> None:  # fault 30
    request = world.shell("trap '' TERM", "sleep 30 & echo $! >pid", "wait", "sleep 30")
    handle = world.executor.start(request)
    world.until((world.guard(request) / "work/pid").exists)
    world.executor.stop(world.reference(request, handle), grace_seconds=0)
    report = world.end(request, handle)
    assert (report.status, report.exit_code) == ("failed", 137)
    child = int((world.guard(request) / "work/pid").read_text())
    world.until(lambda: not _alive(child))
    world.executor.stop(world.reference(request, handle), grace_seconds=0)


def test_what_somebody_cancelled_by_hand_is_looked_at(world: SsmWorld) -> None:  # fault 30
    request = world.shell("sleep 0.5", "exit 6")
    handle = world.executor.start(request)
    world.begun(request)
    world.compute.ssm.call("CancelCommand", {"CommandId": handle})
    world.until_status(request, handle, "unknown")
    assert world.until_status(request, handle, "running", "failed").status in ("running", "failed")


def test_what_was_not_delivered_when_it_was_stopped_never_begins(world: SsmWorld) -> None:
    world.compute.faults.delay_seconds = {"Pending": 0.3}
    request = world.shell("exit 0")
    handle = world.executor.start(request)
    world.executor.stop(world.reference(request, None), grace_seconds=1)
    assert world.end(request, handle).status == "cancelled"
    world.until((world.guard(request) / "stop").exists)
    assert not (world.guard(request) / "pid").exists()


def test_a_stop_that_no_host_heard_is_asked_for_again(world: SsmWorld) -> None:
    request = world.shell("sleep 30")
    handle = world.executor.start(request)
    world.begun(request)
    world.compute.faults.throttled = {"SendCommand": 1}
    with pytest.raises(TargetUnavailable):
        world.executor.stop(world.reference(request, handle), grace_seconds=1)


# --- events -------------------------------------------------------------------------------------------------------------


def test_events_only_say_where_to_look(world: SsmWorld) -> None:  # faults 32 and 33
    world.compute.faults.events_twice = True
    request = world.shell("exit 2")
    handle = world.executor.start(request)
    report = world.end(request, handle)
    translate = AwsEvents({"ssm": world.executor})  # type: ignore[dict-item]
    world.until(lambda: world.compute.events.sent)
    reports: list[Report] = [one for event in world.compute.events.sent for one in translate(event)]
    assert reports
    assert all(timeless(one) == timeless(report) for one in reports)
    foreign = world.compute.ssm.call(
        "SendCommand",
        {
            "DocumentName": "AWS-RunShellScript",
            "InstanceIds": [ONE],
            "TimeoutSeconds": 60,
            "Parameters": {"commands": ["true"], "executionTimeout": ["60"]},
        },
    )
    event = {"source": "aws.ssm", "detail": {"command-id": foreign["Command"]["CommandId"], "status": "Success"}}
    assert translate(event) == []
    assert translate({"source": "aws.ssm", "detail": {"command-id": "0" * 36}}) == []


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _alive(pid: int) -> bool:
    try:
        # A zombie of nobody's is not alive.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
