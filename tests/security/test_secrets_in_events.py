"""What targets, jobs and people say reaches events, views, messages and reads without the secrets in it (I13), whatever the target.

The core over stores in memory, with targets that quote secrets; `test_secrets_at_doorways.py` has the engines.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from shared.codec import effects_to_json
from shared.decide.commands import RecordReport
from shared.errors import InvalidInput, Rejected, TargetRefused, TargetSilent, TargetUnavailable
from shared.ids import Handle, JobName, RunId, WorkflowName, run_stream
from shared.ports import Reference, Report, Request, RunFilter
from shared.state.run import Run
from shared.usecases.verify import verify
from shared.views.objects import run_object
from shared.workflow.document import Workflow
from shared.workflow.reading import canonical
from tests.engine.fakes import Node, World
from tests.security.planted import NAMED, TEXTS, VALUES, assert_clean

NIGHTLY = WorkflowName("nightly")
LOAD = JobName("load")


@dataclass
class Quoting:
    """A target that answers with what it was told to say."""

    takes_token: bool
    raised: Exception | None = None
    answer: dict[str, Any] = field(default_factory=lambda: {"status": "running"})
    runs_at_once: bool = False
    token_seconds: float | None = None
    started: list[Request] = field(default_factory=list)

    def start(self, request: Request) -> Handle:
        self.started.append(request)
        if self.raised is not None:
            raise self.raised
        return Handle(f"task/{request.token}")

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        return [Report(one.token, one.run, one.job, one.attempt, **self.answer) for one in references]

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:
        pass


@dataclass
class Here:
    """One workflow on one node."""

    target: Quoting
    job: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.world = World()
        self.world.targets = self.target  # type: ignore[assignment]  # everything that a node asks of targets
        self.node = Node(self.world)
        self.sent: list[str] = []
        send = self.node.transact._effects.send

        def recorded(effects: Iterable[Any], *, delay_seconds: float = 0) -> None:
            kept = list(effects)
            self.sent.append(effects_to_json(kept))
            send(kept, delay_seconds=delay_seconds)

        self.node.transact._effects.send = recorded  # type: ignore[method-assign]
        job = {"name": "load", "type": "ssm", "host": "h", "commands": ["true"], **self.job}
        document = Workflow.model_validate({"name": "nightly", "jobs": [job], **self.more})
        self.node.control.register_document(document, by="ann", source="nightly.json")

    def run(self, **parameters: Any) -> RunId:
        run = self.node.control.request_run(NIGHTLY, parameters, by="ann").run
        self.carry_out()
        return run

    def carry_out(self) -> None:
        for _ in range(20):
            received = self.node.queue.receive(10)
            if not received:
                return
            for receipt, effect in received:
                self.node.carry_out(effect)
                self.node.queue.done(receipt)

    def report(self, run: RunId, **said: Any) -> None:
        """What a target says of the first attempt that was started."""
        command = RecordReport(LOAD, 1, **said)
        self.node.transact(run_stream(run), command, by="status", cause="report")

    def state(self, run: RunId) -> Run:
        state = self.node.transact.current(run_stream(run)).state
        assert isinstance(state, Run)
        return state

    def everything(self) -> list[Any]:
        """Events, views, messages, and what is shown of runs."""
        store, found = self.world.store, list[Any](self.sent)
        for kind in ("run", "workflow", "document"):
            for stream in store.streams(kind):
                found += store.read(stream)
                loaded = self.node.transact.current(stream)
                self.node.settle(loaded)
                if isinstance(loaded.state, Run):
                    found.append(run_object(loaded.state, loaded.version))
        found += self.world.views.runs(RunFilter()).rows
        found += self.world.views.workflows()[0]
        return found

    def check(self, text: str) -> None:
        assert_clean(text, *self.everything())
        violations = list(verify(self.world.store, self.node.plans, now=self.world.clock.now))
        assert [str(one) for one in violations if one.invariant == "I13"] == []


@pytest.mark.parametrize("what", TEXTS)
@pytest.mark.parametrize("takes_token", [True, False], ids=["with a token", "without"])
@pytest.mark.parametrize("error", [TargetRefused, TargetUnavailable, TargetSilent])
def test_i13_what_a_target_refuses_with_is_recorded_without_its_secrets(
    error: type[Exception], takes_token: bool, what: str
) -> None:
    raised = error(f"cannot start with {TEXTS[what]} in it")
    # What was refused may have been taken before: a target that takes tokens is asked.
    here = Here(Quoting(takes_token, raised=raised, answer={"status": "missing"}))
    run = here.run()
    assert here.target.started
    here.check(TEXTS[what])
    if error is TargetRefused:
        assert "cannot start with" in here.state(run).jobs[LOAD].attempts[0].reason
        assert "(withheld: " in here.state(run).jobs[LOAD].attempts[0].reason


@pytest.mark.parametrize("what", TEXTS)
@pytest.mark.parametrize("status", ["failed", "cancelled", "succeeded", "unknown"])
def test_i13_what_a_target_reports_is_recorded_without_its_secrets(status: Any, what: str) -> None:
    here = Here(Quoting(True), job={"retry": {"attempts": 2, "delay_seconds": 0}})
    run = here.run()
    failure: Any = "user" if status == "failed" else None
    here.report(run, status=status, reason=f"it said {TEXTS[what]}", failure=failure)
    here.report(run, status="failed", reason=f"late: {TEXTS[what]}", failure="user")
    here.carry_out()
    here.check(TEXTS[what])


def test_i13_a_secret_is_withheld_before_the_text_is_cut() -> None:
    text = VALUES["a GitHub token"]
    here = Here(Quoting(True))
    run = here.run()
    here.report(run, status="failed", reason="x" * 1_980 + text, failure="user")
    assert text[:12] not in here.state(run).jobs[LOAD].attempts[0].reason


OUTPUTS: dict[str, tuple[dict[str, Any], str, str]] = {
    **{what: ({"rows": 1, "said": [text]}, text, "outputs.said[0]") for what, text in VALUES.items()},
    **{what: ({"db": {name: value}}, value, f"outputs.db.{name}") for what, (name, value) in NAMED.items()},
    "a number": ({"password": 47110815}, "47110815", "outputs.password"),
    "a name": ({VALUES["a GitHub token"]: 1}, VALUES["a GitHub token"], "outputs"),
}


@pytest.mark.parametrize("what", OUTPUTS)
@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_i13_outputs_with_a_secret_are_not_kept_and_the_job_fails(status: Any, what: str) -> None:
    outputs, text, place = OUTPUTS[what]
    here = Here(Quoting(True))
    run = here.run()
    here.report(run, status=status, outputs=outputs, failure="user" if status == "failed" else None)
    attempt = here.state(run).jobs[LOAD].attempts[0]
    assert attempt.status == "failed"
    assert not here.state(run).jobs[LOAD].outputs
    if status == "succeeded":
        assert f" is in its {place}, " in attempt.reason
        assert "`secrets`" in attempt.reason
    if what == "a number":
        assert text not in str(here.everything())
    else:
        here.check(text)


def test_i13_outputs_that_are_no_secrets_are_kept() -> None:
    outputs = {"token": "page-2", "secret_name": "prod/db", "key": "Reports/2026/01/sales-final.csv", "sha": "0a" * 32}
    here = Here(Quoting(True))
    run = here.run()
    here.report(run, status="succeeded", outputs=outputs)
    assert here.state(run).jobs[LOAD].outputs == outputs


PARAMETERS: dict[str, Any] = {"type": "object", "additionalProperties": True, "properties": {"x": {"type": "string"}}}


@pytest.mark.parametrize("what", [*VALUES, *NAMED])
def test_i13_a_secret_given_as_a_parameter_is_refused(what: str) -> None:
    here = Here(Quoting(True), more={"parameters": PARAMETERS})
    name, value = NAMED.get(what) or ("x", VALUES[what])
    with pytest.raises(InvalidInput) as caught:
        here.run(**{name: value})
    assert caught.value.problems[0].path == f"params.{name}"
    assert "`secrets`" in caught.value.problems[0].hint
    assert_clean(value, str(caught.value))
    here.check(value)
    assert not here.target.started


@pytest.mark.parametrize("takes_token", [True, False], ids=["with a token", "without"])
@pytest.mark.parametrize(
    ("job", "place"),
    [
        ({"environment": {"DB_PASSWORD": "{{ params.x }}"}}, "environment.DB_PASSWORD"),
        ({"commands": [], "script": "/x", "args": ["--password={{ params.x }}"]}, "args[0]"),
        ({"commands": [], "script": "/x", "args": ["postgres://app:{{ params.x }}@db/x"]}, "args[0]"),
    ],
)
def test_i13_a_secret_that_a_template_puts_together_is_never_asked_for(
    job: dict[str, Any], place: str, takes_token: bool
) -> None:
    """A target that takes no token is asked only after what it is asked is recorded."""
    value = NAMED["a password"][1]
    here = Here(Quoting(takes_token), job=job, more={"parameters": PARAMETERS})
    run = here.run(x=value)
    assert not here.target.started
    attempt = here.state(run).jobs[LOAD].attempts[0]
    assert attempt.status == "failed"
    assert attempt.reason.startswith(f"{place} would hold what looks like a password")
    claimed = [one for one in here.everything() if "AttemptClaimed" in str(one)]
    assert claimed == []


def test_i13_references_are_recorded_with_the_claim_and_no_values() -> None:
    here = Here(Quoting(False), job={"secrets": {"DB_PASSWORD": "arn:aws:secretsmanager:eu-west-1:1:secret:w"}})
    here.run()
    assert len(here.target.started) == 1
    assert "arn:aws:secretsmanager:eu-west-1:1:secret:w" in str(here.everything())


def test_i13_a_document_of_before_is_still_refused_where_it_would_be_recorded() -> None:
    """Registered by a release that did not look."""
    value = NAMED["a password"][1]
    here = Here(Quoting(False), job={"environment": {"DB_PASSWORD": value}})
    run = here.run()
    assert not here.target.started
    assert here.state(run).jobs[LOAD].attempts[0].failure == "refused"
    here.check(value)


def _marked(here: Here, run: RunId, text: str) -> None:
    here.report(run, status="failed", failure="user")
    here.node.control.mark(run, LOAD, "succeeded", by="ann", reason=text)


def _rerun(here: Here, run: RunId, text: str) -> None:
    here.report(run, status="failed", failure="user")
    changed = Workflow.model_validate(
        {"name": "nightly", "jobs": [{"name": "load", "type": "ssm", "host": "h", "commands": [text]}]}
    )
    here.node.control.register_document(changed, by="ann", source="x")
    with pytest.raises(Rejected):
        here.node.control.rerun(run, by="ann", request=text, reason=text)
    here.node.control.rerun(run, by="ann", document="latest", reason=text)


def _dropped(here: Here, run: RunId, text: str) -> None:
    job = {"name": "load", "type": "ssm", "host": "h", "commands": ["true"]}
    one_at_a_time = Workflow.model_validate(
        {"name": "nightly", "max_active_runs": 1, "overlap": "queue", "jobs": [job]}
    )
    here.node.control.register_document(one_at_a_time, by="ann", source="x")
    here.run()
    held = here.node.control.request_run(NIGHTLY, {}, by="ann", note=text)
    assert held.held
    here.node.control.cancel(held.run, by="ann", reason=text)


PEOPLE: dict[str, Callable[[Here, RunId, str], object]] = {
    "cancel a run": lambda here, run, text: here.node.control.cancel(run, by="ann", reason=text),
    "cancel a job": lambda here, run, text: here.node.control.cancel(run, by="ann", reason=text, job=LOAD),
    "mark a job": _marked,
    "rerun": _rerun,
    "pause": lambda here, run, text: here.node.control.pause(NIGHTLY, by="ann", reason=text),
    "unregister": lambda here, run, text: here.node.control.unregister(NIGHTLY, by="ann", reason=text),
    "note of a run": lambda here, run, text: here.node.control.request_run(NIGHTLY, {}, by="ann", note=text),
    "name of a file": lambda here, run, text: here.node.control.register(
        canonical(Workflow.model_validate({"name": "other", "jobs": [{"name": "a", "type": "ecs", "image": "i"}]})),
        name=text,
        by="ann",
    ),
    "drop a waiting run": _dropped,
}


@pytest.mark.parametrize("what", TEXTS)
@pytest.mark.parametrize("asked", PEOPLE)
def test_i13_what_people_write_is_recorded_without_its_secrets(asked: str, what: str) -> None:
    here = Here(Quoting(True))
    run = here.run()
    PEOPLE[asked](here, run, TEXTS[what])
    here.world.clock.now += timedelta(seconds=1)
    here.check(TEXTS[what])


@pytest.mark.parametrize("what", [*VALUES, *NAMED])
def test_i13_an_upload_that_holds_a_secret_is_kept_nowhere(what: str) -> None:
    here = Here(Quoting(True))
    name, value = NAMED.get(what) or ("X", VALUES[what])
    job = {"name": "a", "type": "ecs", "image": "i", "environment": {name: value}}
    data = canonical(Workflow.model_validate({"name": "other", "jobs": [job]}))
    with pytest.raises(InvalidInput):
        here.node.control.upload("workflows/other.json", "etag", data, by="ann")
    here.check(value)
    assert_clean(value, *[data.decode() for data in here.world.documents._documents.values()])
    assert "environment" in str(here.world.store.read(here.world.store.streams("document")[0]))


def test_i13_verify_finds_what_was_recorded_before() -> None:
    here = Here(Quoting(True))
    run = here.run()
    store = here.world.store
    records = store.read(run_stream(run))
    store._commits[run_stream(run)] = [
        replace(records[0], body=records[0].body[:-2] + ',"note":"' + TEXTS["a password"] + '"}]'),
        *records[1:],
    ]
    found = [str(one) for one in verify(store, here.node.plans, now=here.world.clock.now)]
    assert any("I13" in one for one in found)
    assert_clean(TEXTS["a password"], *found)
