"""The engine of a home on this machine, reached through the home's own files; see `cli/reach.py`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any, Literal

from cli import finding
from cli.reach import Attempts, End, Moment, Object, Outcome, Page, Pin, Runs, Verdict, is_their_page
from cli.session import Session
from shared.bootstrap import LocalParts, utc_now
from shared.decide.instants import Calendars, exclusion_of, no_calendars
from shared.errors import NotFound, Rejected
from shared.explain import pools_of, why_job, why_run, with_children
from shared.ids import (
    BackfillId,
    JobName,
    PoolName,
    RunId,
    StreamName,
    WorkflowName,
    backfill_stream,
    digest_of,
    is_backfill,
    pool_stream,
    run_stream,
    workflow_of,
    workflow_stream,
)
from shared.ports import RunFilter, RunSort
from shared.state.backfill import BackfillState
from shared.state.pool import NoPool, PoolState
from shared.state.run import Done, NotRequested, Run
from shared.state.workflow import NotRegistered, WorkflowState
from shared.usecases.backfills import rehearse
from shared.usecases.calendars import calendars, check_calendars, coming, find_calendar
from shared.usecases.documents import difference
from shared.usecases.explaining import upstream_of
from shared.usecases.loading import Loaded
from shared.usecases.pools import find_pool, list_pools
from shared.views.objects import (
    attempt_objects,
    backfill_object,
    backfill_row_object,
    calendar_object,
    commit_object,
    condition_object,
    instant_objects,
    instant_objects_of,
    kept_files,
    moment,
    notice_row_object,
    odd_day_objects,
    rehearsal_object,
    run_object,
    run_row_object,
    workflow_object,
    workflow_row_object,
)
from shared.views.pools import holder_objects, line_objects, pool_object
from shared.views.rows import run_row
from shared.workflow.nearest import shown
from shared.workflow.reading import canonical

if TYPE_CHECKING:
    from cli.terminal import Terminal
    from cli.writing import Writing
    from shared.workflow.calendar import Calendar
    from shared.workflow.document import Workflow

LOG_BYTES = 1 << 18


class AtHome:
    """Used within `with`: the home is opened when it is first needed, and closed at the end."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._closing = ExitStack()

    def __enter__(self) -> "AtHome":
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.close()

    @cached_property
    def _parts(self) -> LocalParts:
        return self._closing.enter_context(self._session.reading())

    @property
    def up(self) -> bool:
        from local.home import engine_process

        return engine_process(self._session.home) is not None

    # --- workflows ----------------------------------------------------------------------------------------------------

    def workflows(self, *, cursor: str, limit: int) -> tuple[list[Object], str]:
        parts = self._parts
        rows, following = parts.views.workflows(cursor=cursor, limit=limit)
        found = []
        for row in rows:
            last = next(iter(parts.views.runs(RunFilter(workflow=row.workflow), limit=1).rows), None)
            found.append(
                {
                    **workflow_row_object(row),
                    "last_run": last.run if last is not None else None,
                    "last_status": last.status if last is not None else None,
                    "last_requested_at": moment(last.requested_at) if last is not None else None,
                }
            )
        return found, following

    def workflow(self, name: str) -> Object:
        parts = self._parts
        state = parts.control.workflow(WorkflowName(name))
        version = parts.transact.current(workflow_stream(state.name)).version
        return workflow_object(state, version, parts.plans((state.live or state.versions[-1]).document))

    def parameters_of(self, name: str) -> Mapping[str, Any] | None:
        return _live(self._parts, WorkflowName(name)).parameters

    def compared(self, document: "Workflow", instants: int) -> Object:
        state: WorkflowState | None = None
        differences: list[str] = []
        known: Calendars = no_calendars
        digest = digest_of(canonical(document))
        if self._session.home.exists():
            parts = self._parts
            known = parts.loader.calendar_days
            check_calendars(parts.loader, document)
            found = parts.loader.load(workflow_stream(WorkflowName(document.name))).state
            if isinstance(found, WorkflowState):
                state = found
                newest = found.live or found.versions[-1]
                if newest.document != digest:
                    differences = difference(parts.plans(newest.document).workflow, document)
        if state is None:
            change = "new"
        elif state.live is None:
            change = "again"
        else:
            change = "unchanged" if state.live.document == digest else "changed"
        ahead = coming(document.schedule, known, after=utc_now(), count=instants)
        return {
            "change": change,
            "live_version": state.live.number if state is not None and state.live is not None else None,
            "next_version": None if change == "unchanged" else (len(state.versions) + 1 if state is not None else 1),
            "paused": state is not None and state.pause is not None,
            "differences": differences,
            "instants": instant_objects(ahead.instants),
            "odd_days": odd_day_objects(ahead.odd_days),
        }

    def register(self, documents: "Sequence[tuple[str, Workflow]]") -> list[Object]:
        by = self._session.by
        with self._session.writing(make=True) as writing:
            for _, one in documents:
                check_calendars(writing.parts.loader, one)
            done = [writing.control.register_document(one, by=by, source=source) for source, one in documents]
        return [_registered(one) for one in done]

    def register_calendar(self, source: str, calendar: "Calendar") -> Object:
        with self._session.writing(make=True) as writing:
            done = writing.control.register_calendar(calendar, by=self._session.by, source=source)
        return {"calendar": done.calendar, "version": done.version, "changed": done.changed}

    def calendars(self, *, cursor: str, limit: int) -> tuple[list[Object], str]:
        found, following = calendars(self._parts.loader, cursor=cursor, limit=limit)
        return [calendar_object(one) for one in found], following

    def calendar(self, name: str) -> Object:
        return calendar_object(find_calendar(self._parts.loader, name))

    def go_back(self, name: str, version: int) -> Object:
        by = self._session.by
        with self._session.writing() as writing:
            return _registered(writing.control.register_version(WorkflowName(name), version, by=by))

    def unregister(self, name: str, *, reason: str) -> None:
        with self._session.writing() as writing:
            writing.control.unregister(WorkflowName(name), by=self._session.by, reason=reason)

    def pause(self, name: str, *, reason: str) -> None:
        with self._session.writing() as writing:
            writing.control.pause(WorkflowName(name), by=self._session.by, reason=reason)

    def resume(self, name: str) -> None:
        with self._session.writing() as writing:
            writing.control.resume(WorkflowName(name), by=self._session.by)

    def send_event(
        self, kind: Literal["bus", "queue"], *, id_: str, source: str, detail_type: str, detail: Any
    ) -> list[Object]:
        from shared.triggers import sent_occurrence
        from shared.usecases.triggers import Triggers, taken_object

        occurrence = sent_occurrence(kind, id_, source, detail_type, detail)
        with self._session.writing() as writing:
            triggers = Triggers(writing.parts.transact, writing.parts.views)
            return [dict(taken_object(one)) for one in triggers(occurrence, by=self._session.by)]

    # --- pools --------------------------------------------------------------------------------------------------------

    def pools(self, *, cursor: str, limit: int) -> tuple[list[Object], str]:
        found, following = list_pools(self._parts.store, self._parts.loader, cursor=cursor, limit=limit)
        return [pool_object(one.state, one.version) for one in found], following

    def pool(self, name: str) -> Object:
        found = find_pool(self._parts.loader, name)
        return pool_object(found.state, found.version)

    def holders(self, name: str, *, after: int, limit: int) -> tuple[list[Object], int | None]:
        return holder_objects(find_pool(self._parts.loader, name).state, after=after, limit=limit)

    def line(self, name: str, *, after: int, limit: int) -> tuple[list[Object], int | None]:
        return line_objects(find_pool(self._parts.loader, name).state, utc_now(), after=after, limit=limit)

    def set_pool(self, name: str, capacity: int) -> Object:
        with self._session.writing(make=True) as writing:
            writing.control.set_pool(name, capacity, by=self._session.by)
        return self.pool(name)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def find_run(self, text: str, *, existing: bool = True) -> str:
        return finding.find_run(self._parts, text, existing=existing)

    def runs(self, where: RunFilter, *, sort: RunSort, cursor: str, limit: int) -> Runs:
        parts = self._parts
        page = parts.views.runs(where, sort=sort, cursor=cursor, limit=limit)
        held = list(_held_rows(parts, where)) if is_their_page(sort, cursor, page.cursor) else []
        if where.workflow is not None and not page.rows and not held:
            # An empty list is an answer, a misspelt name deserves a better one.
            parts.control.workflow(where.workflow)  # type: ignore[arg-type]
        rows = sorted([*held, *page.rows], key=lambda row: row.requested_at, reverse=sort == "newest")
        stopped = bool(page.cursor) and len(page.rows) < limit
        return Runs(
            [run_row_object(row) for row in rows],
            frozenset(row.run for row in held),
            page.cursor,
            page.scanned if stopped else None,
        )

    def run(self, run: str, as_of: Moment | None = None) -> Object:
        as_of = as_of or Moment(None, None)
        loaded = finding.load_run(self._parts, RunId(run), version=as_of.version, at=as_of.at)
        return self._run_object(loaded)

    def _run_object(self, loaded: Loaded) -> Object:
        state = loaded.state
        assert isinstance(state, Run)
        pending = finding.pending_request(self._parts, state.run) if loaded.version == 0 else None
        held = {"since": moment(pending[1]), "reason": pending[2]} if pending is not None and pending[2] else None
        return {**run_object(state, loaded.version), "held": held}

    def why(self, run: str, job: str | None, as_of: Moment | None) -> Object:
        parts, found = self._parts, RunId(run)
        stream, owner = run_stream(found), workflow_stream(workflow_of(found))
        now, at = utc_now(), None
        if as_of is None:
            loaded = parts.loader.load(stream)
        else:
            loaded = parts.loader.load_as_of(stream, version=as_of.version, at=as_of.at)
            now = at = as_of.at or loaded.at or now
        workflow = (parts.loader.load(owner) if at is None else parts.loader.load_as_of(owner, at=at)).state
        state = loaded.state
        assert isinstance(state, Run | NotRequested)
        assert isinstance(workflow, WorkflowState | NotRegistered)
        known = workflow if isinstance(workflow, WorkflowState) else None
        plan = parts.plans(known.live.document) if known is not None and known.live is not None else None
        upstream = upstream_of(parts.loader, now, at=at)
        if job is not None and isinstance(state, Run):
            name = finding.find_job(state, job)
            pools = _pools(parts, pools_of(state, name), at)
            conditions = why_job(state, name, now, workflow=known, pools=pools, upstream=upstream)
        else:
            history = () if isinstance(state, Run) else _history(parts, owner, at)
            pools = _pools(parts, pools_of(state), at) if isinstance(state, Run) else {}
            rule = plan.workflow.schedule if plan is not None else None
            exclusion = exclusion_of(rule, parts.loader.calendar_days) if rule is not None and at is None else None
            conditions = why_run(
                state,
                found,
                now,
                workflow=workflow,
                plan=plan,
                history=history,
                pools=pools,
                exclusion=exclusion,
                upstream=upstream,
            )

        def child(run: RunId) -> Run | None:
            stream = run_stream(run)
            of_child = (parts.loader.load(stream) if at is None else parts.loader.load_as_of(stream, at=at)).state
            return of_child if isinstance(of_child, Run) else None

        conditions = with_children(conditions, child, now)
        return {
            "run": found,
            "job": job,
            "at": moment(now),
            # Of the past it is not known whether an engine was up.
            "engine_up": self.up if as_of is None else None,
            "conditions": [condition_object(one) for one in conditions],
        }

    def commits(self, text: str, *, after: int) -> Iterator[Object]:
        parts = self._parts
        kind, mark, _ = text.partition("#")
        if mark and kind in ("workflow", "calendar", "document", "run", "backfill"):
            stream = StreamName(text)
            if not parts.store.read(stream, limit=1):
                raise NotFound(f"nothing ever happened to {shown(text)}")
        else:
            stream = run_stream(RunId(self.find_run(text)))
        return (commit_object(record) for record in parts.loader.records(stream, after=after))

    def request_run(
        self,
        workflow: str,
        values: Mapping[str, Any],
        *,
        key: str,
        start_after: datetime | None,
        files: Mapping[str, str],
        note: str,
    ) -> Object:
        from cli.uploading import Uploads

        name, by = WorkflowName(workflow), self._session.by
        with (
            self._session.writing() as writing,
            Uploads(writing, _uploads(_live(writing.parts, name)), name, key, files) as uploads,
        ):
            requested = uploads.control.request_run(
                name, values, by=by, key=key, start_after=start_after, files=uploads.addresses, note=note
            )
            uploads.needed = requested.new
        return {"run": requested.run, "workflow": workflow, "new": requested.new, "held": requested.held}

    def cancel(self, run: str, *, job: str | None, reason: str) -> None:
        name = None if job is None else JobName(job)
        with self._session.writing() as writing:
            writing.control.cancel(RunId(run), by=self._session.by, reason=reason, job=name)

    def rerun(
        self, run: str, *, jobs: Sequence[str], failed: bool, document: Pin, reason: str, key: str
    ) -> tuple[str, ...]:
        with self._session.writing() as writing:
            state = writing.control.run(RunId(run))
            names = [
                finding.find_job(state, job) if document == "pinned" else _job_of_any(writing, state, job, document)
                for job in jobs
            ]
            return tuple(
                writing.control.rerun(
                    RunId(run),
                    by=self._session.by,
                    jobs=names,
                    failed=failed,
                    document=document,
                    reason=reason,
                    request=key,
                )
            )

    def decide(self, run: str, job: str, verdict: Verdict, *, reason: str) -> None:
        with self._session.writing() as writing:
            name = finding.find_job(writing.control.run(RunId(run)), job)
            # Whoever may write these files may do everything but pass for another.
            writing.control.decide(RunId(run), name, verdict, by=self._session.by, role="admin", reason=reason)

    def mark(self, run: str, job: str, outcome: Outcome, *, reason: str) -> None:
        with self._session.writing() as writing:
            name = finding.find_job(writing.control.run(RunId(run)), job)
            writing.control.mark(RunId(run), name, outcome, by=self._session.by, reason=reason)

    def follow(
        self, run: str, terminal: "Terminal | None", *, timeout_seconds: float | None
    ) -> tuple[End, Object | None]:
        from cli.following import Follower

        follower = Follower(self._session.home, RunId(run), terminal, timeout_seconds=timeout_seconds)
        end = follower.follow(self._session.reading)
        return end, self._run_object(follower.loaded) if follower.loaded is not None and follower.state else None

    # --- notices ------------------------------------------------------------------------------------------------------

    def alerts(
        self, workflow: str | None, since: datetime | None, *, cursor: str, limit: int
    ) -> tuple[list[Object], str]:
        rows, following = self._parts.views.notices(workflow=workflow, since=since, cursor=cursor, limit=limit)
        return [notice_row_object(row) for row in rows], following

    # --- backfills ----------------------------------------------------------------------------------------------------

    def request_backfill(self, body: Mapping[str, Any], *, key: str) -> Object:
        name, more = WorkflowName(body["workflow"]), dict(body)
        since, until = more.pop("from"), more.pop("until")
        del more["workflow"]
        with self._session.writing() as writing:
            asked = writing.control.request_backfill(
                name, since, until, by=self._session.by, key=key, now=utc_now(), **more
            )
        return {
            "backfill": asked.backfill,
            "workflow": name,
            "new": asked.new,
            "count": asked.count,
            "rehearsal": None,
        }

    def rehearse_backfill(self, body: Mapping[str, Any]) -> Object:
        parts = self._parts
        state = parts.control.workflow(WorkflowName(body["workflow"]))
        told = rehearse(
            parts.loader,
            state,
            body["from"],
            body["until"],
            order=body["order"],
            which=body["which"],
            max_active=body["max_active"],
            now=utc_now(),
        )
        answer = {"backfill": None, "workflow": state.name, "new": False, "count": told.range.count}
        return answer | {"rehearsal": rehearsal_object(told)}

    def backfills(self, workflow: str | None, *, cursor: str, limit: int) -> tuple[list[Object], str]:
        parts = self._parts
        name = None if workflow is None else WorkflowName(workflow)
        rows, following = parts.views.backfills(name, cursor=cursor, limit=limit)
        if name is not None and not rows:
            # An empty list is an answer, a misspelt name deserves a better one.
            parts.control.workflow(name)
        return [backfill_row_object(row) for row in rows], following

    def backfill(self, backfill: str) -> Object:
        state, version = self._backfill(backfill)
        return backfill_object(state, version)

    def backfill_instants(self, backfill: str) -> list[Object]:
        state, _ = self._backfill(backfill)
        return instant_objects_of(state, None, len(state.instants) + 1)[0]

    def change_backfill(self, backfill: str, act: str, *, reason: str) -> None:
        name, by = BackfillId(backfill), self._session.by
        with self._session.writing() as writing:
            match act:
                case "pause":
                    writing.control.pause_backfill(name, by=by, reason=reason)
                case "resume":
                    writing.control.resume_backfill(name, by=by)
                case _:
                    writing.control.cancel_backfill(name, by=by, reason=reason)

    def _backfill(self, backfill: str) -> tuple[BackfillState, int]:
        if is_backfill(backfill):
            loaded = self._parts.loader.load(backfill_stream(BackfillId(backfill)))
            if isinstance(loaded.state, BackfillState):
                return loaded.state, loaded.version
        raise NotFound(f"there is no backfill {shown(backfill)}; `runfold backfill` lists them")

    # --- output and files ---------------------------------------------------------------------------------------------

    def attempts(self, run: str, job: str) -> Attempts:
        state = finding.load_run(self._parts, RunId(run)).state
        assert isinstance(state, Run)
        one = state.job(JobName(job))
        return Attempts(
            tuple(attempt["attempt"] for attempt in attempt_objects(one)),
            tuple(attempt.attempt for attempt in one.attempts),
            isinstance(one.phase, Done) or state.finished,
        )

    def output(
        self,
        run: str,
        job: str,
        attempt: int,
        *,
        stream: Literal["out", "err"] | None,
        cursor: str,
        wait: bool,  # noqa: ARG002  (looking at files costs so little that whoever waits may look again)
    ) -> Page:
        from shared.executors.process import ProcessExecutor

        executor = ProcessExecutor(self._session.home.path, environment={}, now=utc_now)
        page = executor.read_log(
            RunId(run), JobName(job), attempt, stream=stream, after_cursor=cursor, limit_bytes=LOG_BYTES
        )
        lines = tuple(
            {"at": moment(one.at), "stream": one.stream, "host": one.host, "text": one.text} for one in page.lines
        )
        return Page(lines, page.cursor, settled=True)

    def files(self, run: str, *, saved_only: bool) -> list[Object]:
        state = finding.load_run(self._parts, RunId(run)).state
        assert isinstance(state, Run)
        return [{**one, "size": self._size(one["address"])} for one in kept_files(state, saved_only=saved_only)]

    def _size(self, address: str) -> int | None:
        try:
            return (self._session.home.path / address).stat().st_size
        except OSError:
            return None

    @contextmanager
    def open_file(self, file: Object) -> Iterator[IO[bytes]]:
        try:
            source = (self._session.home.path / file["address"]).open("rb")
        except OSError as error:
            raise NotFound(f"{file['path']} is not there any more: {error.strerror}") from error
        with source:
            yield source


def _live(parts: LocalParts, workflow: WorkflowName) -> "Workflow":
    state = parts.control.workflow(workflow)
    if state.live is None:
        raise Rejected(f"{workflow} was unregistered; register it again to run it")
    return parts.plans(state.live.document).workflow


def _uploads(document: "Workflow") -> set[str]:
    return {one.upload for job in document.jobs for one in job.inputs if one.upload is not None}


def _registered(done: Any) -> Object:
    return {
        "workflow": done.workflow,
        "version": done.version,
        "changed": done.changed,
        "differences": list(done.differences),
    }


def _held_rows(parts: LocalParts, where: RunFilter) -> Iterator[Any]:
    """Runs that their workflows hold back, or let in a moment ago: they have no stream, and so no row, of their own yet."""
    rows, _ = parts.views.workflows(limit=1000)
    for workflow in rows:
        if where.workflow not in (None, workflow.workflow):
            continue
        for name in (*workflow.held_runs, *workflow.active_runs):
            run = RunId(name)
            if parts.views.get_run(run) is not None:
                continue
            state = finding.load_run(parts, run).state
            assert isinstance(state, Run)
            row = run_row(state, 0)
            if (
                where.status in (None, row.status)
                and where.owner in (None, row.owner)
                and (where.tag is None or where.tag in row.tags)
                and where.attention is None
                and where.parent in (None, row.parent)
                and (where.since is None or row.requested_at >= where.since)
                and (where.until is None or row.requested_at < where.until)
            ):
                yield row


def _history(parts: LocalParts, stream: StreamName, until: datetime | None) -> Iterator[tuple[datetime, Any]]:
    from shared.codec import events_in

    for record in parts.loader.records(stream):
        if until is not None and record.at > until:
            return
        for event in events_in(record.body):
            yield record.at, event


def _pools(parts: LocalParts, names: Sequence[PoolName], at: datetime | None) -> dict[PoolName, NoPool | PoolState]:
    """As they are, or as they were at an instant."""
    pools: dict[PoolName, NoPool | PoolState] = {}
    for name in names:
        stream = pool_stream(name)
        state = (parts.loader.load(stream) if at is None else parts.loader.load_as_of(stream, at=at)).state
        assert isinstance(state, NoPool | PoolState)
        pools[name] = state
    return pools


def _job_of_any(writing: "Writing", state: Run, job: str, document: Pin) -> JobName:
    """A job may be new in the document that the run goes on with; the rules have the last word."""
    workflow = writing.control.workflow(state.request.workflow)
    version = workflow.live if not isinstance(document, int) else workflow.version(document)
    if version is not None and job in writing.parts.plans(version.document).jobs:
        return JobName(job)
    return finding.find_job(state, job)
