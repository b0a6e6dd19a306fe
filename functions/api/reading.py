"""The operations that only read: from a call to the objects that it is answered with."""

import hashlib
import json
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from functions.api.requests import PageOfItems, PageOfJobs
from functions.api.service import Answer, Call, resource_of_run
from shared.decide.access import Resource
from shared.errors import InvalidInput, NotFound, Problem
from shared.ids import (
    JobName,
    RunId,
    StreamName,
    WorkflowName,
    backfill_stream,
    item_of,
    run_stream,
    workflow_of,
    workflow_stream,
)
from shared.ports import LogLine, RunFilter
from shared.state.run import Run
from shared.usecases.queries import FoundRun
from shared.views.objects import (
    backfill_object,
    backfill_row_object,
    calendar_object,
    commit_object,
    condition_object,
    instant_objects,
    instant_objects_of,
    items_of,
    job_object,
    kept_files,
    moment,
    notice_row_object,
    odd_day_objects,
    run_object,
    run_row_object,
    version_object,
    workflow_object,
    workflow_row_object,
)
from shared.views.pools import holder_objects, line_objects, pool_object
from shared.views.rows import schedule_text

_DESCRIPTION = Path(__file__).parent / "openapi.json"


def health(call: Call) -> Answer:
    # One row from the store says more than "the process lives".
    call.queries.workflows(None, cursor="", limit=1)
    return Answer(lambda: {"status": "ok", "release": call.service.release})


def openapi(call: Call) -> Answer:  # noqa: ARG001
    return Answer(lambda: json.loads(_DESCRIPTION.read_bytes()))


# --- workflows ------------------------------------------------------------------------------------------------------------


def workflows(call: Call) -> Answer:
    rows, cursor = call.queries.workflows(call.sees(), cursor=call.query.cursor, limit=call.query.limit)
    return Answer(lambda: {"workflows": [workflow_row_object(row) for row in rows], "cursor": cursor})


def workflow(call: Call) -> Answer:
    found = call.workflow()
    return Answer(lambda: workflow_object(found.state, found.version, found.plan), etag=str(found.version))


def versions(call: Call) -> Answer:
    state = call.workflow().state
    return Answer(
        lambda: {
            "workflow": state.name,
            "live_version": state.live.number if state.live is not None else None,
            "versions": [version_object(one) for one in state.versions],
        }
    )


def version(call: Call) -> Answer:
    found = call.workflow()
    one, document = call.queries.version(
        found, _number(call.path["version"], f"{found.state.name} has no such version")
    )
    return Answer(
        lambda: {
            **version_object(one),
            "workflow": found.state.name,
            "content": document.model_dump(mode="json", exclude_none=True),
        },
        etag=one.document,
    )


def diff(call: Call) -> Answer:
    found = call.workflow()
    old, new = call.query.old, call.query.new
    differences = call.queries.differences(found, old, new)
    return Answer(lambda: {"workflow": found.state.name, "old": old, "new": new, "differences": list(differences)})


def instants(call: Call) -> Answer:
    found = call.workflow()
    coming = call.queries.instants(found, after=call.query.after, count=call.query.count)
    return Answer(
        lambda: {
            "workflow": found.state.name,
            "schedule": schedule_text(found.plan.workflow.schedule),
            "paused": found.state.pause is not None,
            "instants": instant_objects(coming),
        }
    )


def workflow_events(call: Call) -> Answer:
    return _commits(call, workflow_stream(call.workflow().state.name))


def plan(call: Call) -> Answer:
    planned = call.queries.plan(call.data, name=document_name(call), instants=call.query.instants)
    document, state = planned.document, planned.state
    if state is not None:
        # What it differs in says what is live, which only those may know who may read that.
        newest = call.queries.workflow(document.name).plan.workflow
        call.must("read", Resource(document.name, frozenset(newest.tags)))
    types: dict[str, int] = {}
    for job in document.jobs:
        types[job.type] = types.get(job.type, 0) + 1
    return Answer(
        lambda: {
            "workflow": document.name,
            "change": planned.change,
            "live_version": state.live.number if state is not None and state.live is not None else None,
            "next_version": planned.next_version,
            "paused": state is not None and state.pause is not None,
            "differences": list(planned.differences),
            "schedule": schedule_text(document.schedule),
            "instants": instant_objects(planned.coming.instants),
            "odd_days": odd_day_objects(planned.coming.odd_days),
            "jobs": len(document.jobs),
            "jobs_by_type": types,
            "uploads": sorted({one.upload for job in document.jobs for one in job.inputs if one.upload is not None}),
            "secrets": sorted({reference for job in document.jobs for reference in job.secrets.values()}),
        }
    )


def document_name(call: Call) -> str:
    """The ending tells the reader of documents which language it is."""
    return "document.json" if call.content_type == "application/json" else "document.yaml"


# --- calendars ------------------------------------------------------------------------------------------------------------


def calendars(call: Call) -> Answer:
    found, cursor = call.queries.calendars(cursor=call.query.cursor, limit=call.query.limit)
    return Answer(lambda: {"calendars": [calendar_object(one) for one in found], "cursor": cursor})


def calendar(call: Call) -> Answer:
    found = call.queries.calendar(call.path["calendar"])
    return Answer(lambda: calendar_object(found), etag=str(found.version))


# --- runs -----------------------------------------------------------------------------------------------------------------


def runs(call: Call) -> Answer:
    query = call.query
    page = call.queries.runs(filter_of(query), call.sees(), sort=query.sort, cursor=query.cursor, limit=query.limit)
    scan = None if page.scan is None else {"rows": page.scan.rows, "stopped": page.scan.stopped}
    return Answer(lambda: {"runs": [run_row_object(row) for row in page.rows], "cursor": page.cursor, "scan": scan})


def filter_of(where: Any) -> RunFilter:
    return RunFilter(
        workflow=where.workflow,
        status=where.status,
        owner=where.owner,
        tag=where.tag,
        attention=where.attention,
        parent=where.parent,
        since=where.since,
        until=where.until,
    )


def run(call: Call) -> Answer:
    found = call.run()
    return Answer(lambda: whole_run(found), etag=_etag(found))


def whole_run(found: FoundRun) -> dict[str, Any]:
    held = None
    if found.held_since is not None:
        held = {"since": moment(found.held_since), "reason": found.held_reason}
    return {**run_object(found.run, found.version), "held": held}


def why(call: Call) -> Answer:
    text = call.path["run"]
    absent = f"there is no run {text}"
    try:
        # Whoever may see the run as it is may ask for any moment of it.
        call.may("read", resource_of_run(call.queries.run(text)), absent)
    except NotFound:
        _may_ask_why_not(call, text, absent)
    return _why(call, None)


def _may_ask_why_not(call: Call, text: str, absent: str) -> None:
    # A run that does not exist belongs to its workflow, if there is one.
    try:
        found = call.queries.workflow(workflow_of(RunId(text)))
    except NotFound:
        raise NotFound(absent) from None
    call.may("read", Resource(found.state.name, frozenset(found.plan.workflow.tags)), absent)


def why_job(call: Call) -> Answer:
    call.run()
    return _why(call, call.path["job"])


def _why(call: Call, job: str | None) -> Answer:
    told = call.queries.why(call.path["run"], job, call.as_of(), names_others=call.sees() is None)
    conditions = [condition_object(one) for one in told.conditions]
    return Answer(
        lambda: {"run": call.path["run"], "job": job, "at": moment(told.at), "conditions": conditions},
        # That time went by is no news to whoever polls.
        etag=hashlib.sha256(json.dumps(conditions).encode()).hexdigest()[:32],
    )


def run_events(call: Call) -> Answer:
    return _commits(call, run_stream(call.run().run.run))


def _commits(call: Call, stream: StreamName) -> Answer:
    records = call.queries.commits(stream, after=call.query.after, limit=call.query.limit)
    after = records[-1].version if records else call.query.after
    return Answer(lambda: {"commits": [commit_object(one) for one in records], "after": after})


def jobs(call: Call) -> Answer:
    found = call.run()
    query: PageOfJobs = call.query
    names = list(found.run.plan.jobs)
    start = 0
    if query.after:
        start = names.index(call.queries.job(found.run, query.after)) + 1
    page = names[start : start + query.limit]
    following = page[-1] if start + query.limit < len(names) else ""
    return Answer(
        lambda: {
            "run": found.run.run,
            "version": found.version,
            "jobs": [job_object(found.run, name) for name in page],
            "after": following,
        },
        etag=_etag(found),
    )


def job(call: Call) -> Answer:
    found, name = _job(call)
    return Answer(lambda: job_object(found.run, name), etag=_etag(found))


def items(call: Call) -> Answer:
    found, name = _job(call)
    query: PageOfItems = call.query
    if name not in found.run.fans:
        raise NotFound(f"{name} in {found.run.run} has no items")
    start = 0
    if query.after:
        after = item_of(call.queries.job(found.run, query.after))
        if after is None or after[0] != name:
            raise NotFound(f"{query.after} is no item of {name}")
        start = after[1] + 1
    # One more than is shown tells whether there is another page.
    page = list(islice(items_of(found.run, name, start=start, bad=query.bad), query.limit + 1))
    following = page[query.limit - 1] if len(page) > query.limit else ""
    return Answer(
        lambda: {
            "run": found.run.run,
            "version": found.version,
            "job": name,
            "items": [job_object(found.run, item) for item in page[: query.limit]],
            "after": following,
        },
        etag=_etag(found),
    )


def attempt(call: Call) -> Answer:
    found, name = _job(call)
    absent = f"{name} in {found.run.run} has no such attempt"
    number = _number(call.path["attempt"], absent)
    one = next((one for one in job_object(found.run, name)["attempts"] if one["attempt"] == number), None)
    if one is None:
        raise NotFound(absent)
    return Answer(lambda: one, etag=_etag(found))


def output(call: Call) -> Answer:
    found, name = _job(call)
    number = None
    if "attempt" in call.path:
        number = _number(call.path["attempt"], f"{name} in {found.run.run} has no such attempt")
    query = call.query
    page = call.queries.output(found.run, name, number, stream=query.stream, cursor=query.cursor, bytes_max=query.bytes)
    return Answer(
        lambda: {
            "run": found.run.run,
            "job": name,
            "attempt": page.attempt,
            "lines": [_line_object(line) for line in page.lines],
            "cursor": page.cursor,
            "complete": page.complete,
            "absent": page.absent,
        },
        waiting="" if page.lines or page.complete else f"{page.attempt} {page.ended}",
    )


def _line_object(line: LogLine) -> dict[str, Any]:
    return {"at": moment(line.at), "stream": line.stream, "host": line.host, "text": line.text}


# --- notices --------------------------------------------------------------------------------------------------------------


def alerts(call: Call) -> Answer:
    query = call.query
    rows, cursor = call.queries.alerts(query.workflow, query.since, call.sees(), cursor=query.cursor, limit=query.limit)
    return Answer(lambda: {"alerts": [notice_row_object(row) for row in rows], "cursor": cursor})


# --- backfills ------------------------------------------------------------------------------------------------------------


def backfills(call: Call) -> Answer:
    query = call.query
    workflow = None if query.workflow is None else WorkflowName(query.workflow)
    rows, cursor = call.queries.backfills(workflow, call.sees(), cursor=query.cursor, limit=query.limit)
    return Answer(lambda: {"backfills": [backfill_row_object(row) for row in rows], "cursor": cursor})


def backfill(call: Call) -> Answer:
    found = call.backfill()
    return Answer(lambda: backfill_object(found.state, found.version), etag=str(found.version))


def backfill_instants(call: Call) -> Answer:
    found = call.backfill()
    page, after = instant_objects_of(found.state, call.query.after, call.query.limit)
    return Answer(
        lambda: {
            "backfill": found.state.backfill,
            "version": found.version,
            "instants": page,
            "after": after,
        }
    )


def backfill_events(call: Call) -> Answer:
    return _commits(call, backfill_stream(call.backfill().state.backfill))


# --- pools ----------------------------------------------------------------------------------------------------------------

# They are shared by workflows of which a caller may see only some, so that they are for those alone who see everything.


def pools(call: Call) -> Answer:
    call.must("read", Resource())
    found, cursor = call.queries.pools(cursor=call.query.cursor, limit=call.query.limit)
    return Answer(lambda: {"pools": [pool_object(one.state, one.version) for one in found], "cursor": cursor})


def pool(call: Call) -> Answer:
    call.must("read", Resource())
    found = call.queries.pool(call.path["pool"])
    return Answer(lambda: pool_object(found.state, found.version), etag=str(found.version))


def pool_holders(call: Call) -> Answer:
    call.must("read", Resource())
    found = call.queries.pool(call.path["pool"])
    page, after = holder_objects(found.state, after=call.query.after, limit=call.query.limit)
    about = {"pool": found.state.name, "version": found.version}
    return Answer(lambda: {**about, "holders": page, "after": after})


def pool_line(call: Call) -> Answer:
    call.must("read", Resource())
    found = call.queries.pool(call.path["pool"])
    page, after = line_objects(found.state, call.service.now(), after=call.query.after, limit=call.query.limit)
    about = {"pool": found.state.name, "version": found.version}
    return Answer(lambda: {**about, "line": page, "after": after})


# --- files ----------------------------------------------------------------------------------------------------------------


def files(call: Call) -> Answer:
    found = call.run().run
    kept = [_file_object(call, found, one) for one in kept_files(found, saved_only=call.query.saved)]
    return Answer(lambda: {"run": found.run, "files": kept})


def _file_object(call: Call, found: Run, one: dict[str, Any]) -> dict[str, Any]:
    href = f"/v1/runs/{quote(found.run, safe='')}/files/content?path={quote(one['path'], safe='')}&job={one['job']}"
    size = call.queries.file_size(found.run, one["address"])
    return {
        "path": one["path"],
        "job": one["job"],
        "attempt": one["attempt"],
        "saved": one["saved"],
        "size": size,
        "href": href,
    }


def content(call: Call) -> Answer:
    found = call.run().run
    query = call.query
    meant = [
        one
        for one in kept_files(found, saved_only=False)
        if one["path"] == query.path and query.job in (None, one["job"])
    ]
    if not meant:
        raise NotFound(f"{found.run} kept no such file; /v1/runs/…/files lists them")
    if len(meant) > 1:
        several = ", ".join(one["job"] for one in meant[:5])
        raise InvalidInput([Problem("job", f"several jobs left this file: {several}", "say which")])
    stored = call.queries.file(found.run, meant[0]["address"])
    if stored.path is None:
        return Answer(status=302, headers={"Location": stored.url})
    name = quote(meant[0]["path"].rpartition("/")[2], safe="")
    return Answer(
        file=stored.path,
        headers={
            "Content-Type": "application/octet-stream",
            # What a job wrote is never a page of ours: a browser saves it and runs nothing of it.
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            "Content-Security-Policy": "sandbox",
        },
    )


def _job(call: Call) -> tuple[FoundRun, JobName]:
    found = call.run()
    return found, call.queries.job(found.run, call.path["job"])


def _etag(found: FoundRun) -> str:
    # A run that has not begun has no version of its own, so what is sent is hashed instead.
    return str(found.version) if found.version else ""


def _number(text: str, absent: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise NotFound(absent)
    return int(text)
