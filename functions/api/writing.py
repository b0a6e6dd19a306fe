"""The operations that ask for a change, each in the name of whoever calls."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import quote

from functions.api.problems import unsigned
from functions.api.reading import document_name, filter_of
from functions.api.service import Answer, Call, Receive, resource_of_run
from shared.decide.access import Action, Resource, role_on
from shared.errors import InvalidInput, NotFound, Problem
from shared.ids import BackfillId, Digest, RunId, WorkflowName, keyed_run, workflow_of
from shared.ports import GIVEN_FILE_BYTES_MAX, RunRow
from shared.triggers import sent_occurrence
from shared.usecases.bulk import BulkAct, in_bulk
from shared.usecases.documents import read_document
from shared.usecases.queries import FoundRun, is_run
from shared.usecases.requesting import check_files
from shared.usecases.triggers import SignedRequest, taken_object
from shared.views.objects import backfill_object, rehearsal_object, workflow_object
from shared.views.pools import pool_object
from shared.workflow.calendar import EXAMPLE, read_calendar
from shared.workflow.document import Workflow, WorkflowJob

# --- workflows ------------------------------------------------------------------------------------------------------------


def register(call: Call) -> Answer:
    document = read_document(call.data, name=document_name(call))
    _may_register(call, document)
    done = call.control.register_document(document, by=call.by, source="api")
    return _registered(done)


def register_calendar(call: Call) -> Answer:
    # Every workflow that names it follows it, so it takes more than a grant on one of them.
    call.must("register", Resource())
    calendar = read_calendar(call.data, name=document_name(call))
    if calendar is None:
        raise InvalidInput([Problem("calendar", "is missing", f"a calendar looks like {EXAMPLE}")])
    done = call.control.register_calendar(calendar, by=call.by, source="api")
    return Answer(
        lambda: {"calendar": done.calendar, "version": done.version, "changed": done.changed},
        status=201 if done.changed else 200,
        headers={"Location": f"/v1/calendars/{done.calendar}"} if done.changed else {},
    )


def rollback(call: Call) -> Answer:
    found = call.workflow("register")
    _, document = call.queries.version(found, call.body.version)
    _may_register(call, document)
    return _registered(call.control.register_version(found.state.name, call.body.version, by=call.by))


def _may_register(call: Call, document: Workflow) -> None:
    """Both what would be live and what is live must be theirs: a tag in a document must not take over another's workflow."""
    call.must("register", Resource(document.name, frozenset(document.tags)))
    for called in {job.workflow: None for job in document.jobs if isinstance(job, WorkflowJob)}:
        # Or a document would run in our name what its author may not run in theirs. In the same words whether it exists or not.
        call.must("run", Resource(called, _tags_of(call, called)))
    try:
        live = call.queries.workflow(document.name).plan.workflow
    except NotFound:
        return
    call.must("register", Resource(document.name, frozenset(live.tags)))


def _tags_of(call: Call, workflow: str) -> frozenset[str]:
    try:
        return frozenset(call.queries.workflow(workflow).plan.workflow.tags)
    except NotFound:
        return frozenset()


def _registered(done: Any) -> Answer:
    return Answer(
        lambda: {
            "workflow": done.workflow,
            "version": done.version,
            "changed": done.changed,
            "differences": list(done.differences),
        },
        status=201 if done.changed else 200,
        headers={"Location": f"/v1/workflows/{done.workflow}/versions/{done.version}"} if done.changed else {},
    )


def unregister(call: Call) -> Answer:
    found = call.workflow("unregister")
    call.control.unregister(found.state.name, by=call.by, reason=call.body.reason)
    return _workflow(call, found.state.name)


def pause(call: Call) -> Answer:
    found = call.workflow("pause")
    call.control.pause(found.state.name, by=call.by, reason=call.body.reason)
    return _workflow(call, found.state.name)


def resume(call: Call) -> Answer:
    found = call.workflow("resume")
    call.control.resume(found.state.name, by=call.by)
    return _workflow(call, found.state.name)


def _workflow(call: Call, name: WorkflowName) -> Answer:
    now = call.queries.workflow(name)
    return Answer(lambda: workflow_object(now.state, now.version, now.plan))


# --- runs -----------------------------------------------------------------------------------------------------------------


def ask_for_run(call: Call) -> Answer:
    body = call.body
    found = call.queries.workflow(body.workflow)
    resource = Resource(found.state.name, frozenset(found.plan.workflow.tags))
    call.may("run", resource, f"there is no workflow {body.workflow}")
    with _kept_files(call, found.state.name) as files:
        asked = call.control.request_run(
            found.state.name,
            body.parameters,
            by=call.by,
            key=call.key,
            start_after=body.start_after,
            files=files,
            note=body.note,
        )
    return Answer(
        lambda: {"run": asked.run, "workflow": found.state.name, "new": asked.new, "held": asked.held},
        status=201 if asked.new else 200,
        headers={"Location": f"/v1/runs/{quote(asked.run, safe='')}"} if asked.new else {},
    )


@contextmanager
def _kept_files(call: Call, workflow: WorkflowName) -> Iterator[Mapping[str, str]]:
    """Names to addresses of the files that came before; what is kept for the run goes again if it is refused."""
    digests = {name: Digest(digest) for name, digest in call.body.files.items()}
    if not digests:
        yield {}
        return
    check_files(call.control.live_document(workflow), digests)
    run = keyed_run(workflow, _needed_key(call))
    with call.service.given_files().kept(run, set(digests.values())) as addresses:
        problems = [
            Problem(
                f"files.{name}", "is not there", "ask POST /v1/uploads where to put it, under the same Idempotency-Key"
            )
            for name, digest in digests.items()
            if digest not in addresses
        ]
        if problems:
            raise InvalidInput(problems)
        yield {name: addresses[digest] for name, digest in digests.items()}


def place_files(call: Call) -> Answer:
    body = call.body
    found = call.queries.workflow(body.workflow)
    resource = Resource(found.state.name, frozenset(found.plan.workflow.tags))
    call.may("run", resource, f"there is no workflow {body.workflow}")
    check_files(call.control.live_document(found.state.name), body.files)
    run = keyed_run(found.state.name, _needed_key(call))
    places = {
        name: call.service.given_files().place(run, Digest(one.sha256), one.size) for name, one in body.files.items()
    }
    return Answer(
        lambda: {
            "run": run,
            "workflow": found.state.name,
            "files": [
                {"name": name, "method": "PUT", "url": place.url, "headers": dict(place.headers)}
                for name, place in places.items()
            ],
        }
    )


def put_file(call: Call) -> Answer:
    run, digest = call.path["run"], call.path["digest"]
    absent = f"there is no place for files of {run}"
    if not is_run(run) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise NotFound(absent)
    try:
        found = call.queries.workflow(workflow_of(RunId(run)))
    except NotFound:
        raise NotFound(absent) from None
    call.may("run", Resource(found.state.name, frozenset(found.plan.workflow.tags)), absent)
    path = call.service.given_files().receiver(RunId(run), Digest(digest))
    receive = Receive(path, digest, GIVEN_FILE_BYTES_MAX)
    return Answer(lambda: {"run": run, "sha256": digest}, receive=receive)


def _needed_key(call: Call) -> str:
    # It settles the run's id, under which its files are kept.
    if not call.key:
        raise InvalidInput([Problem("Idempotency-Key", "is missing", "a run with files needs one: send a UUID")])
    return call.key


def cancel(call: Call) -> Answer:
    found = call.run("cancel")
    job = call.queries.job(found.run, call.body.job) if call.body.job is not None else None
    call.control.cancel(found.run.run, by=call.by, reason=call.body.reason, job=job)
    return _acted_on(call, found)


def rerun(call: Call) -> Answer:
    found = call.run("rerun")
    body = call.body
    changes = call.control.rerun(
        found.run.run,
        by=call.by,
        jobs=body.jobs,
        failed=body.failed,
        document=body.document,
        reason=body.reason,
        request=call.key,
    )
    return _acted_on(call, found, changes)


def mark(call: Call) -> Answer:
    found = call.run("mark")
    job = call.queries.job(found.run, call.body.job)
    call.control.mark(found.run.run, job, call.body.outcome, by=call.by, reason=call.body.reason)
    return _acted_on(call, found)


def approve(call: Call) -> Answer:
    return _decide(call, "approved")


def reject(call: Call) -> Answer:
    return _decide(call, "rejected")


def _decide(call: Call, verdict: Literal["approved", "rejected"]) -> Answer:
    # Whoever may see the run may ask; who may decide stands in its document.
    found = call.run("approve")
    job = call.queries.job(found.run, call.body.job)
    role = role_on(call.principal, resource_of_run(found))
    call.control.decide(found.run.run, job, verdict, by=call.by, role=role, reason=call.body.reason)
    return _acted_on(call, found)


def _acted_on(call: Call, before: FoundRun, changes: tuple[str, ...] = ()) -> Answer:
    run = before.run
    answer = {"run": run.run, "workflow": run.request.workflow, "version": 0, "round": run.round}
    try:
        now = call.queries.run(run.run)
        answer |= {"status": now.run.status, "version": now.version, "round": now.run.round}
    except NotFound:
        # It was held back by its workflow, and is dropped now.
        answer |= {"status": "cancelled"}
    return Answer(lambda: answer | {"changes": list(changes)})


# --- backfills ------------------------------------------------------------------------------------------------------------


def ask_for_backfill(call: Call) -> Answer:
    body = call.body
    found = call.queries.workflow(body.workflow)
    resource = Resource(found.state.name, frozenset(found.plan.workflow.tags))
    call.may("run", resource, f"there is no workflow {body.workflow}")
    if body.dry_run:
        told = call.queries.rehearse_backfill(
            found, body.since, body.until, order=body.order, which=body.which, max_active=body.max_active
        )
        answer = {"backfill": None, "workflow": found.state.name, "new": False, "count": told.range.count}
        return Answer(lambda: answer | {"rehearsal": rehearsal_object(told)})
    asked = call.control.request_backfill(
        found.state.name,
        body.since,
        body.until,
        by=call.by,
        order=body.order,
        which=body.which,
        max_active=body.max_active,
        parameters=body.parameters,
        reason=body.reason,
        key=call.key,
        now=call.service.now(),
    )
    return Answer(
        lambda: {
            "backfill": asked.backfill,
            "workflow": found.state.name,
            "new": asked.new,
            "count": asked.count,
            "rehearsal": None,
        },
        status=201 if asked.new else 200,
        headers={"Location": f"/v1/backfills/{quote(asked.backfill, safe='')}"} if asked.new else {},
    )


def pause_backfill(call: Call) -> Answer:
    backfill = call.backfill("pause").state.backfill
    call.control.pause_backfill(backfill, by=call.by, reason=call.body.reason)
    return _backfill(call, backfill)


def resume_backfill(call: Call) -> Answer:
    backfill = call.backfill("resume").state.backfill
    call.control.resume_backfill(backfill, by=call.by)
    return _backfill(call, backfill)


def cancel_backfill(call: Call) -> Answer:
    backfill = call.backfill("cancel").state.backfill
    call.control.cancel_backfill(backfill, by=call.by, reason=call.body.reason)
    return _backfill(call, backfill)


def _backfill(call: Call, backfill: BackfillId) -> Answer:
    now = call.queries.backfill(backfill)
    return Answer(lambda: backfill_object(now.state, now.version))


# --- events ---------------------------------------------------------------------------------------------------------------


def send_event(call: Call) -> Answer:
    body = call.body
    occurrence = sent_occurrence(body.kind, body.id, body.source, body.detail_type, body.detail)
    sees = call.sees("run")
    allows = None if sees is None else lambda document: sees(document.name, frozenset(document.tags))
    taken = call.service.triggers()(occurrence, by=call.by, allows=allows)
    return Answer(lambda: {"taken": [taken_object(one) for one in taken]})


def call_webhook(call: Call) -> Answer:
    headers = call.headers
    request = SignedRequest(
        call.path["workflow"],
        call.path["trigger"],
        headers.get("x-runfold-timestamp", ""),
        headers.get("x-runfold-delivery", ""),
        headers.get("x-runfold-signature", ""),
        call.data,
    )
    taken = call.service.triggers().signed(request, read_secret=call.service.read_secret, now=call.service.now())
    if taken is None:
        raise unsigned()
    return Answer(lambda: taken_object(taken))


# --- pools ----------------------------------------------------------------------------------------------------------------


def set_pool(call: Call) -> Answer:
    call.must("resize", Resource())
    name = call.path["pool"]
    call.control.set_pool(name, call.body.capacity, by=call.by)
    found = call.queries.pool(name)
    return Answer(lambda: pool_object(found.state, found.version))


# --- many runs ------------------------------------------------------------------------------------------------------------


def bulk_cancel(call: Call) -> Answer:
    def act(row: RunRow) -> None:
        call.control.cancel(row.run, by=call.by, reason=call.body.reason)

    return _bulk(call, "cancel", act)


def bulk_rerun(call: Call) -> Answer:
    def act(row: RunRow) -> None:
        body = call.body
        call.control.rerun(
            row.run, by=call.by, failed=True, document=body.document, reason=body.reason, request=call.key
        )

    return _bulk(call, "rerun", act)


def bulk_mark(call: Call) -> Answer:
    def act(row: RunRow) -> None:
        body = call.body
        run = call.queries.run(RunId(row.run)).run
        call.control.mark(row.run, call.queries.job(run, body.job), body.outcome, by=call.by, reason=body.reason)

    return _bulk(call, "mark", act)


def _bulk(call: Call, kind: BulkAct, act: Any) -> Answer:
    body = call.body
    if all(value is None for value in body.where.model_dump().values()):
        raise InvalidInput([Problem("where", "names nothing, so it would mean every run", "give at least one field")])
    action: Action = kind
    done = in_bulk(
        call.queries,
        filter_of(body.where),
        call.sees(action),
        act,
        kind=kind,
        dry_run=body.dry_run,
        cursor=body.cursor,
        limit=body.limit,
        seconds=time.monotonic,
    )
    return Answer(
        lambda: {
            "dry_run": body.dry_run,
            "done": done.done,
            "refused": [{"run": run, "reason": reason} for run, reason in done.refused.items()],
            "cursor": done.cursor,
        }
    )
