"""What an executor owes (`shared.ports.Executor`), kept by the one on EMR, with the faults of FAULTS.md that are EMR's."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.errors import TargetRefused, TargetSilent, TargetUnavailable
from shared.executors.aws_events import AwsEvents
from shared.executors.emr import NAME_MAX, EmrExecutor
from shared.executors.emr_serverless import EmrServerlessExecutor, EmrTargets
from shared.ids import Handle
from shared.ports import Executor, Request
from tests.compute import Compute
from tests.contract.aws_targets import BUCKET, World, client, now, timeless, workspace

pytestmark = pytest.mark.slow  # real HTTP, real processes: half a minute in all

CLUSTER = {"ReleaseLabel": "emr-7.5.0", "Instances": {"InstanceCount": 3}, "Applications": [{"Name": "Spark"}]}


class EmrWorld(World):
    kind = "emr"

    def again(self) -> None:
        self.executor = EmrExecutor(client(self.compute, "emr"), workspace(self.compute), now=now)

    def live(self) -> str:
        """A cluster that somebody else keeps."""
        answer: Any = client(self.compute, "emr").run_job_flow(
            Name="shared", Instances={"KeepJobFlowAliveWhenNoSteps": True}
        )
        return str(answer["JobFlowId"])

    def steps(self, *texts: str, action: str = "CONTINUE", attempt: int = 1, **more: Any) -> Request:
        given = [
            {
                "Name": f"step {number}",
                "ActionOnFailure": action,
                "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["sh", "-c", text]},
            }
            for number, text in enumerate(texts, start=1)
        ]
        return self.request(attempt=attempt, steps=given, **more)


@pytest.fixture
def world() -> Iterator[EmrWorld]:
    with Compute() as compute:
        yield EmrWorld(compute, EmrExecutor(client(compute, "emr"), workspace(compute), now=now))


def test_it_keeps_the_protocol(world: EmrWorld) -> None:
    executor: Executor = world.executor
    assert not executor.takes_token


def test_a_client_that_asks_twice_by_itself_is_not_accepted(world: EmrWorld) -> None:
    with pytest.raises(ValueError, match="no token"):
        EmrExecutor(client(world.compute, "emr", harmless=True), None, now=now)


def test_a_cluster_of_its_own_gets_every_field_and_ends_with_its_steps(world: EmrWorld) -> None:
    cluster = {**CLUSTER, "Name": "sales", "Tags": [{"Key": "team", "Value": "x"}], "StepConcurrencyLevel": 2}
    request = world.steps("exit 0", cluster=cluster)
    handle = world.executor.start(request)
    report = world.end(request, handle)
    assert report.status == "succeeded"
    assert report.started_at is not None
    assert report.ended_at is not None
    asked = world.compute.emr.clusters[handle].request
    assert asked["Name"].startswith("sales #" + request.token)
    assert asked["Instances"] == {"InstanceCount": 3, "KeepJobFlowAliveWhenNoSteps": False}
    assert {one: asked[one] for one in ("ReleaseLabel", "Applications", "StepConcurrencyLevel")} == {
        "ReleaseLabel": "emr-7.5.0",
        "Applications": [{"Name": "Spark"}],
        "StepConcurrencyLevel": 2,
    }
    assert {"Key": "team", "Value": "x"} in asked["Tags"]
    assert {"Key": "runfold:job", "Value": "load"} in asked["Tags"]
    world.until(world.compute.emr.clusters[handle].ended)


def test_a_cluster_takes_roles_of_the_deployment_where_its_request_names_none(world: EmrWorld) -> None:
    given = {"service_role": "EMR_Ours", "instance_profile": "EMR_Hosts"}
    executor = EmrExecutor(client(world.compute, "emr"), None, now=now, **given)  # type: ignore[arg-type]
    plain = executor.start(world.steps("exit 0", cluster=CLUSTER))
    named = executor.start(world.steps("exit 0", cluster={**CLUSTER, "ServiceRole": "EMR_Theirs"}, attempt=2))
    roles = [
        [world.compute.emr.clusters[one].request[key] for key in ("ServiceRole", "JobFlowRole")]
        for one in (plain, named)
    ]
    assert roles == [["EMR_Ours", "EMR_Hosts"], ["EMR_Theirs", "EMR_Hosts"]]


def test_steps_on_a_cluster_that_is_there_run_in_order_and_in_one_call(world: EmrWorld) -> None:
    number = world.live()
    request = world.steps("echo a >>order", "echo b >>order", cluster_id=number)
    report = world.run(request)
    assert report.status == "succeeded"
    assert (world.compute.directory / "clusters" / number / "order").read_text() == "a\nb\n"
    assert world.compute.calls.count("AddJobFlowSteps") == 1
    assert not world.compute.emr.clusters[number].ended()


def test_names_are_cut_for_the_marker_to_fit(world: EmrWorld) -> None:
    request = world.request(
        cluster_id=world.live(),
        steps=[{"Name": "x" * 180, "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]}}],
        job="j" * 64,
    )
    handle = world.executor.start(request)
    name = world.compute.emr.clusters[handle.partition("/")[0]].steps[0].facts["Name"]
    assert len(name) <= NAME_MAX
    assert name.endswith(f"{request.run}/{request.job}/1")


def test_the_first_step_that_fails_fails_the_job_once_all_have_ended(world: EmrWorld) -> None:
    report = world.run(world.steps("exit 0", "exit 4", "exit 0", cluster_id=world.live()))
    assert (report.status, report.failure) == ("failed", "user")
    assert "step 2" in report.reason
    assert "#" not in report.reason


def test_variables_reach_commands_without_a_shell(world: EmrWorld) -> None:  # fault 53
    number = world.live()
    hostile = "$(touch no); 'x' \"y\" `id`"
    request = world.steps(
        'printf %s "$VALUE" >value; [ "$RUNFOLD_JOB" = load ]', cluster_id=number, environment={"VALUE": hostile}
    )
    assert world.run(request).status == "succeeded"
    assert (world.compute.directory / "clusters" / number / "value").read_text() == hostile


def test_spark_hands_variables_to_a_driver_that_is_elsewhere(world: EmrWorld) -> None:
    number = world.live()
    step = {"Name": "s", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["spark-submit", "--x", "app.py"]}}
    world.executor.start(world.request(cluster_id=number, steps=[step], environment={"A": "1"}))
    args = world.compute.emr.clusters[number].steps[0].facts["Config"]["Args"]
    assert args[:2] == ["env", "A=1"]
    assert args[-2:] == ["--x", "app.py"]
    assert "spark.yarn.appMasterEnv.A=1" in args
    assert "spark.executorEnv.A=1" in args


def test_files_and_outputs_lie_in_s3(world: EmrWorld) -> None:
    text = 'aws s3 cp "$RUNFOLD_WORKSPACE/inputs/a" a && echo "{\\"n\\": 1}" >o && aws s3 cp o "$RUNFOLD_OUTPUTS" && aws s3 cp a "$RUNFOLD_WORKSPACE/files/b"'
    request = world.steps(
        text, cluster_id=world.live(), inputs=[{"path": "a", "content": "hello"}], outputs=[{"path": "b"}]
    )
    report = world.run(request)
    assert (report.status, report.outputs) == ("succeeded", {"n": 1}), report
    assert world.compute.objects.get(report.files["b"].removeprefix("s3://")) == b"hello"
    assert report.files["b"].startswith(f"s3://{BUCKET}/")


def test_a_declared_output_that_is_missing_fails_the_job(world: EmrWorld) -> None:
    report = world.run(world.steps("exit 0", cluster_id=world.live(), outputs=[{"path": "b"}]))
    assert (report.status, report.failure) == ("failed", "user")
    assert "b is missing" in report.reason


@pytest.mark.parametrize("own", [True, False])
def test_a_start_that_was_done_and_not_answered_is_found_by_its_marker(world: EmrWorld, own: bool) -> None:  # fault 17
    where = {"cluster": CLUSTER} if own else {"cluster_id": world.live()}
    request = world.steps("exit 0", "exit 0", **where)
    world.compute.faults.silent = {"RunJobFlow": 1, "AddJobFlowSteps": 1}
    with pytest.raises(TargetSilent):
        world.executor.start(request)
    assert world.compute.calls.count("RunJobFlow" if own else "AddJobFlowSteps") == 1
    world.again()
    report = world.end(request, None)
    assert report.status == "succeeded"
    assert report.handle is not None
    assert world.end(request, report.handle).handle == report.handle


def test_what_was_never_asked_for_is_missing(world: EmrWorld) -> None:
    assert world.look(world.steps("exit 0", cluster_id=world.live())).status == "missing"
    assert world.look(world.steps("exit 0", cluster=CLUSTER)).status == "missing"


def others(world: EmrWorld, number: str, count: int) -> None:
    """Steps of somebody else, all behind one that goes on."""
    world.compute.faults.steps_max = 10_000
    jar: Any = {"Jar": "command-runner.jar", "Args": ["sleep", "30"]}
    steps: Any = [{"Name": "theirs", "HadoopJarStep": jar}] * count
    client(world.compute, "emr").add_job_flow_steps(JobFlowId=number, Steps=steps)


def many_clusters(world: EmrWorld, count: int) -> None:
    one = world.compute.emr.clusters[world.live()]
    for name in range(count):
        facts = {**one.facts, "Id": f"j-{name}", "Name": "theirs"}
        world.compute.emr.clusters[f"j-{name}"] = replace(one, facts=facts)


def lost_start(world: EmrWorld, **where: Any) -> Request:
    """Done, and nobody heard the answer."""
    request = world.steps("sleep 30", "exit 0", **where)
    world.compute.faults.silent = {"RunJobFlow": 1, "AddJobFlowSteps": 1}
    with pytest.raises(TargetSilent):
        world.executor.start(request)
    return request


def test_steps_are_found_behind_hundreds_of_others_on_the_cluster_of_the_request(world: EmrWorld) -> None:
    number = world.live()
    request = lost_start(world, cluster_id=number)
    others(world, number, 300)
    world.compute.calls.clear()
    report = world.look(request)
    assert (
        report.handle == f"{number}/{','.join(one.facts['Id'] for one in world.compute.emr.clusters[number].steps[:2])}"
    )
    assert "ListClusters" not in world.compute.calls
    world.executor.stop(world.reference(request), grace_seconds=1)
    assert world.compute.calls[-1] == "CancelSteps"


def test_a_cluster_is_found_behind_hundreds_of_others(world: EmrWorld) -> None:
    request = lost_start(world, cluster=CLUSTER)
    many_clusters(world, 300)
    assert world.look(request).status in ("submitted", "running")
    assert world.compute.calls.count("ListClusters") == 7


def test_clusters_from_outside_the_time_of_the_claim_are_not_looked_through(world: EmrWorld) -> None:
    request = lost_start(world, cluster=CLUSTER)
    many_clusters(world, 3_000)
    hour = timedelta(hours=1)
    for name in range(3_000):
        facts = world.compute.emr.clusters[f"j-{name}"].facts
        facts["Status"] = {
            **facts["Status"],
            "Timeline": {"CreationDateTime": now().timestamp() + (-1) ** name * 3_600},
        }
    reference = replace(world.reference(request), asked_until=now())
    world.executor = EmrExecutor(client(world.compute, "emr"), None, now=lambda: now() + 2 * hour)
    assert world.executor.observe([reference])[0].status in ("submitted", "running")
    assert world.compute.calls.count("ListClusters") == 1


@pytest.mark.parametrize("own", [True, False])
def test_what_too_much_stands_before_is_not_declared_lost(world: EmrWorld, own: bool) -> None:
    number = world.live()
    request = lost_start(world, **({"cluster": CLUSTER} if own else {"cluster_id": number}))
    if own:
        many_clusters(world, 2_001)
    else:
        others(world, number, 2_001)
    report = world.look(request)
    assert (report.status, report.cut_short) == ("unknown", True)
    assert "40 pages" in report.reason
    with pytest.raises(TargetUnavailable, match="cannot find"):
        world.executor.stop(world.reference(request), grace_seconds=1)


def test_a_search_that_takes_too_long_is_not_declared_lost(world: EmrWorld) -> None:
    clock = iter(range(0, 1_000, 15))
    world.executor = EmrExecutor(client(world.compute, "emr"), None, now=now, clock=lambda: next(clock))
    many_clusters(world, 300)
    report = world.look(world.steps("exit 0", cluster=CLUSTER))
    assert (report.status, report.cut_short) == ("unknown", True)
    assert "20 seconds" in report.reason


def test_without_the_request_nobody_knows_where_to_look(world: EmrWorld) -> None:
    reference = replace(world.reference(world.steps("exit 0", cluster=CLUSTER)), request=None)
    assert [one.cut_short for one in world.executor.observe([reference])] == [True]


def test_an_event_of_steps_added_twice_tells_of_those_added_together(world: EmrWorld) -> None:
    number = world.live()
    request = world.steps("exit 0", "exit 0", cluster_id=number)
    first = world.executor.start(request)
    world.end(request, first)
    others(world, number, 1)
    second = world.executor.start(request)
    translate = AwsEvents({"emr": world.executor})  # type: ignore[dict-item]
    for handle in (first, second):
        step = handle.rpartition(",")[2]
        name = next(one.facts["Name"] for one in world.compute.emr.clusters[number].steps if one.facts["Id"] == step)
        event = {"source": "aws.emr", "detail": {"clusterId": number, "stepId": step, "name": name}}
        assert [one.handle for one in translate(event)] == [handle]


def test_inputs_that_took_all_the_time_are_not_brought_twice(world: EmrWorld) -> None:
    request = world.steps("exit 0", cluster_id=world.live(), inputs=[{"path": "a", "content": "x"}])
    late = replace(request, send_before=now() + timedelta(seconds=5))
    with pytest.raises(TargetUnavailable, match="too long"):
        world.executor.start(late)
    assert "AddJobFlowSteps" not in world.compute.calls
    (name,) = world.compute.objects.names()
    world.compute.objects.put(name, b"as it was brought")
    world.executor.start(replace(request, send_before=now() + timedelta(minutes=1)))
    assert world.compute.objects.get(name) == b"as it was brought"


def test_a_cluster_that_ends_takes_its_pending_steps_with_it(world: EmrWorld) -> None:  # fault 18
    number = world.live()
    first = world.steps("sleep 30", cluster_id=number)
    second = world.steps("exit 0", cluster_id=number, attempt=2)
    handles = [world.executor.start(one) for one in (first, second)]
    world.until_status(first, handles[0], "running")
    world.compute.emr.terminate(number, "INSTANCE_FAILURE", "lost the master")
    report = world.look(second, handles[1])
    assert (report.status, report.failure) == ("failed", "infrastructure")
    assert "INSTANCE_FAILURE" in report.reason


def test_steps_that_end_between_two_looks_ended_by_themselves(world: EmrWorld) -> None:
    request = world.steps("sleep 0.2", cluster=CLUSTER)
    handle = world.executor.start(request)
    cluster = world.compute.emr.clusters[handle]
    # The steps are listed while they run; when their cluster is described, all is over.
    world.compute.before["DescribeCluster"] = lambda: world.until(cluster.ended)
    assert world.look(request, handle).status == "succeeded"


def test_a_full_cluster_takes_steps_later(world: EmrWorld) -> None:  # fault 19
    world.compute.faults.steps_max = 1
    number = world.live()
    world.executor.start(world.steps("sleep 30", cluster_id=number))
    with pytest.raises(TargetUnavailable, match="Maximum number of active steps"):
        world.executor.start(world.steps("exit 0", cluster_id=number, attempt=2))


def test_a_step_that_succeeds_although_it_was_cancelled_succeeded(world: EmrWorld) -> None:  # fault 20
    world.compute.faults.cancel_is_ignored = True
    request = world.steps("sleep 0.3", cluster_id=world.live())
    handle = world.executor.start(request)
    world.executor.stop(world.reference(request, handle), grace_seconds=1)
    assert world.end(request, handle).status == "succeeded"


def test_an_end_is_learnt_without_any_event(world: EmrWorld) -> None:  # fault 21
    world.compute.faults.events_lost = True
    assert world.run(world.steps("exit 0", cluster_id=world.live())).status == "succeeded"
    assert world.compute.events.sent == []


def test_a_cluster_that_another_jobs_failure_ended_is_infrastructure(world: EmrWorld) -> None:  # fault 22
    number = world.live()
    breaking = world.steps("sleep 0.2; exit 1", cluster_id=number, action="TERMINATE_CLUSTER")
    others = [world.steps("exit 0", cluster_id=number, attempt=n) for n in (2, 3, 4)]
    handle = world.executor.start(breaking)
    handles = [world.executor.start(one) for one in others]
    assert world.end(breaking, handle).failure == "user"
    for request, one in zip(others, handles, strict=True):
        report = world.end(request, one)
        assert (report.status, report.failure) == ("failed", "infrastructure")


@pytest.mark.parametrize(
    ("code", "message", "status", "failure"),
    [
        ("VALIDATION_ERROR", "bad subnet", "failed", "refused"),
        ("VALIDATION_ERROR", "insufficient capacity", "failed", "capacity"),
        ("BOOTSTRAP_FAILURE", "", "failed", "user"),
        ("INTERNAL_ERROR", "", "failed", "infrastructure"),
        ("USER_REQUEST", "", "cancelled", None),
    ],
)
def test_why_a_cluster_ended_tells_whose_fault_it_was(
    world: EmrWorld, code: str, message: str, status: str, failure: str | None
) -> None:
    world.compute.faults.delay_seconds = {"STARTING": 5}
    request = world.steps("exit 0", cluster=CLUSTER)
    handle = world.executor.start(request)
    assert world.look(request, handle).status == "submitted"
    world.compute.emr.terminate(handle, code, message)
    report = world.look(request, handle)
    assert (report.status, report.failure) == (status, failure)


def test_a_stop_ends_a_cluster_of_its_own_and_only_the_steps_on_another(world: EmrWorld) -> None:
    own = world.steps("sleep 30", cluster=CLUSTER)
    number = world.live()
    other = world.steps("sleep 30", "exit 0", cluster_id=number, attempt=2)
    handles = [world.executor.start(one) for one in (own, other)]
    for request, handle in zip((own, other), handles, strict=True):
        world.until_status(request, handle, "running")
        world.executor.stop(world.reference(request, handle), grace_seconds=1)
        assert world.end(request, handle).status == "cancelled"
        world.executor.stop(world.reference(request, handle), grace_seconds=1)
    assert world.compute.emr.clusters[handles[0]].ended()
    assert not world.compute.emr.clusters[number].ended()


def test_a_step_that_ignores_the_interrupt_is_ended_when_asked_again(world: EmrWorld) -> None:
    request = world.steps("trap '' TERM; while :; do sleep 0.05; done", cluster_id=world.live())
    handle = world.executor.start(request)
    world.until_status(request, handle, "running")
    for _ in range(2):
        world.executor.stop(world.reference(request, handle), grace_seconds=1)
    assert world.end(request, handle).status == "cancelled"


def test_answers_that_are_refusals_give_the_claim_back_and_silence_does_not(world: EmrWorld) -> None:
    request = world.steps("exit 0", cluster_id="j-NOWHERE")
    with pytest.raises(TargetRefused, match="not valid"):
        world.executor.start(request)
    world.compute.faults.throttled = {"AddJobFlowSteps": 1}
    with pytest.raises(TargetUnavailable):
        world.executor.start(request)
    world.compute.faults.broken = {"AddJobFlowSteps": 1}
    with pytest.raises(TargetSilent):
        world.executor.start(request)
    world.compute.close()
    world.again()
    with pytest.raises(TargetUnavailable):
        world.executor.start(request)
    assert world.executor.observe([world.reference(request, Handle("j-X/s-Y"))]) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"secrets": {"A": "arn:x"}}, "secrets"),
        ({"inputs": [{"path": "a", "url": "https://example.com"}]}, "not a URL"),
        ({"environment": {"A": "x" * 11_000}}, "10,240"),
    ],
)
def test_what_emr_can_never_do_is_refused_in_a_sentence(world: EmrWorld, body: dict[str, Any], words: str) -> None:
    with pytest.raises(TargetRefused, match=words):
        world.executor.start(world.steps("exit 0", cluster_id="j-1", **body))


def test_events_only_say_where_to_look(world: EmrWorld) -> None:  # faults 32, 33 and 35
    world.compute.faults.events_reversed = 3
    number = world.live()
    text = 'echo x >x && aws s3 cp x "$RUNFOLD_WORKSPACE/files/x"'
    request = world.steps(text, cluster_id=number, outputs=[{"path": "x"}, {"path": "y", "optional": True}])
    handle = world.executor.start(request)
    report = world.end(request, handle)
    assert list(report.files) == ["x"]
    translate = AwsEvents({"emr": world.executor})  # type: ignore[dict-item]
    world.until(lambda: any("stepId" in one["detail"] for one in world.compute.events.sent))
    for event in world.compute.events.sent:
        reports = translate(event)
        assert [timeless(one) for one in reports] == ([timeless(report)] if "stepId" in event["detail"] else [])
        forged = {**event, "detail": {**event["detail"], "name": event["detail"]["name"].replace("/load/", "/other/")}}
        assert translate(forged) == []


def test_a_clusters_own_events_lead_to_its_attempt(world: EmrWorld) -> None:
    request = world.steps("exit 0", cluster=CLUSTER)
    handle = world.executor.start(request)
    report = world.end(request, handle)
    translate = AwsEvents({"emr": world.executor})  # type: ignore[dict-item]
    world.until(lambda: len(world.compute.events.sent) >= 4)
    assert {timeless(one) for event in world.compute.events.sent for one in _hashable(translate(event))} == {
        _plain(timeless(report))
    }


# --- serverless -----------------------------------------------------------------------------------------------------------

APPLICATION = "arn:aws:emr-serverless:eu-central-1:123456789012:/applications/00abc"
ROLE = "arn:aws:iam::123456789012:role/spark"


def serverless(world: EmrWorld) -> EmrWorld:
    """The same world with both kinds of EMR behind one executor."""
    alone = EmrServerlessExecutor(
        client(world.compute, "emr-serverless"), workspace(world.compute), execution_role=ROLE, now=now
    )
    world.again()
    assert isinstance(world.executor, EmrExecutor)
    world.executor = EmrTargets(world.executor, alone)
    return world


def spark(world: EmrWorld, text: str, *options: str, **more: Any) -> Request:
    args = ["spark-submit", *options, "/bin/sh", "-c", text]
    step = {"Name": "s", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": args}}
    return world.request(steps=[step], cluster_id=APPLICATION, **more)


def test_an_application_runs_a_spark_step_with_variables_and_files(world: EmrWorld) -> None:
    text = '[ "$VALUE" = "a b" ] && echo x >x && aws s3 cp x "$RUNFOLD_WORKSPACE/files/x"'
    request = spark(serverless(world), text, "--conf", "a=b", environment={"VALUE": "a b"}, outputs=[{"path": "x"}])
    handle = world.executor.start(request)
    report = world.end(request, handle)
    assert (report.status, list(report.files)) == ("succeeded", ["x"]), report
    run = next(iter(world.compute.emr_serverless.runs.values()))
    assert run["jobDriver"]["sparkSubmit"]["sparkSubmitParameters"] == "--conf a=b"
    assert run["executionRole"] == ROLE
    translate = AwsEvents({"emr": world.executor})  # type: ignore[dict-item]
    world.until(lambda: len(world.compute.events.sent) >= 2)
    for event in world.compute.events.sent:
        assert [timeless(one) for one in translate(event)] == [timeless(report)]


def test_an_application_starts_once_for_a_token_whatever_was_heard(world: EmrWorld) -> None:
    request = spark(serverless(world), "exit 3")
    world.compute.faults.silent = {"StartJobRun": 1}
    with pytest.raises(TargetSilent):
        world.executor.start(request)
    found = world.end(request, None)
    assert world.executor.start(request) == found.handle
    assert (found.status, found.failure) == ("failed", "user")
    assert len(world.compute.emr_serverless.runs) == 1


def test_a_job_run_whose_start_nobody_heard_is_found_behind_others_and_stopped(world: EmrWorld) -> None:
    request = spark(serverless(world), "sleep 30")
    assert world.look(request).status == "missing"
    world.compute.faults.silent = {"StartJobRun": 1}
    with pytest.raises(TargetSilent):
        world.executor.start(request)
    runs = world.compute.emr_serverless.runs
    ours = next(iter(runs.values()))
    runs |= {f"other{number}": {**ours, "jobRunId": f"other{number}", "name": "theirs"} for number in range(200)}
    world.executor.stop(world.reference(request), grace_seconds=1)
    assert world.end(request, None).status == "cancelled"
    runs |= {f"more{number}": {**ours, "jobRunId": f"more{number}", "name": "theirs"} for number in range(2_000)}
    report = world.look(request)
    assert (report.status, report.cut_short) == ("unknown", True)
    with pytest.raises(TargetUnavailable, match="cannot find"):
        world.executor.stop(world.reference(request), grace_seconds=1)


def test_a_job_run_is_stopped_and_clusters_are_still_served(world: EmrWorld) -> None:
    request = spark(serverless(world), "sleep 30")
    handle = world.executor.start(request)
    world.until_status(request, handle, "running")
    world.executor.stop(world.reference(request, handle), grace_seconds=1)
    assert world.end(request, handle).status == "cancelled"
    world.executor.stop(world.reference(request, handle), grace_seconds=1)
    assert world.run(world.steps("exit 0", cluster=CLUSTER, attempt=2)).status == "succeeded"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["sh", "-c", "true"], "spark-submit"),
        (["spark-submit", "--conf", "a=b c", "x"], "one line"),
        (["spark-submit", "--verbose"], "no program"),
    ],
)
def test_what_an_application_cannot_run_is_refused(world: EmrWorld, args: list[str], words: str) -> None:
    step = {"Name": "s", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": args}}
    with pytest.raises(TargetRefused, match=words):
        serverless(world).executor.start(world.request(cluster_id=APPLICATION, steps=[step]))
    with pytest.raises(TargetRefused, match="each step"):
        world.executor.start(world.request(cluster_id=APPLICATION, steps=[step, step]))


def _hashable(reports: Any) -> Any:
    return [_plain(one) for one in reports]


def _plain(report: Any) -> Any:
    return replace(report, outputs=(), files=())
