"""The real engine in this process: woken by other writers, patient with a full disk, one to a home, fed with documents, and without
anything left over when its work is done.

Real files and processes. Whoever is "another process" here has a connection of its own to the same file.
"""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from local.engine import Engine
from local.home import Home, engine_process, wake
from shared.bootstrap import LocalParts, local_parts, utc_now
from shared.codec import check_chain, record_of
from shared.errors import EngineBusy, Rejected, StoreUnavailable
from shared.events import UnknownEvent
from shared.ids import CommitId, JobName, RunId, WorkflowName, document_stream, run_stream, workflow_stream
from shared.ports import FIRST_HASH, RunRow
from shared.state.document import Upload
from shared.state.run import Run
from shared.state.workflow import WorkflowState
from shared.stores.memory import MemoryViews
from shared.usecases.loading import Loaded
from shared.views.rows import run_row, workflow_row

SECONDS_MAX = 20.0


class Nothing:
    def send(self, effects: Any, *, delay_seconds: float = 0) -> None:
        """The engine finds by itself what commits of others led to."""


@contextmanager
def another_process(home: Home) -> Iterator[LocalParts]:
    parts = local_parts(home.database, home.documents, Nothing())
    try:
        yield parts
    finally:
        parts.close()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def engine(home: Home) -> Iterator[Engine]:
    with Engine(home, environment={"PATH": os.environ["PATH"]}) as made:
        yield made


def job(name: str, script: str, *after: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "type": "ecs", "image": "x", "command": ["sh", "-c", script], "after": list(after), **fields}


def document(*jobs: dict[str, Any], name: str = "small", **fields: Any) -> bytes:
    return json.dumps({"name": name, "jobs": list(jobs), **fields}).encode()


def ask(parts: LocalParts, *jobs: dict[str, Any], name: str = "small", **fields: Any) -> RunId:
    registered = parts.control.register(document(*jobs, name=name, **fields), name="small.json", by="ann")
    return parts.control.request_run(registered.workflow, {}, by="ann").run


def run_until(engine: Engine, holds: Callable[[], object], *, seconds: float = SECONDS_MAX) -> None:
    """Let the engine work until it holds; a timer wakes it in vain, so that a hang is a failure."""
    late = threading.Event()

    def end() -> None:
        late.set()
        wake(engine.home)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        engine.run(until=lambda: late.is_set() or bool(holds()))
    finally:
        timer.cancel()
        timer.join()
    assert not late.is_set(), "it did not come true"


def state_of(parts: LocalParts, run: RunId) -> Run:
    state = parts.loader.load(run_stream(run)).state
    assert isinstance(state, Run)
    return state


def finished(engine: Engine, *runs: RunId) -> Callable[[], bool]:
    return lambda: all(state_of(engine.parts, run).finished for run in runs)


# --- woken ----------------------------------------------------------------------------------------------------------------


def test_another_process_that_asks_for_a_run_wakes_the_engine_at_once(
    engine: Engine, home: Home, tmp_path: Path
) -> None:
    asked_at: list[float] = []

    def other() -> None:
        time.sleep(0.2)
        with another_process(home) as parts:
            parts.control.request_run(WorkflowName("small"), {}, by="ann")
            asked_at.append(time.time())
            wake(home)

    mark = tmp_path / "mark"
    engine.parts.control.register(document(job("a", f"touch {mark}")), name="a.json", by="ann")
    thread = threading.Thread(target=other)
    thread.start()
    run_until(engine, mark.exists)
    thread.join()
    # Far below anything that could be a poll.
    assert mark.stat().st_mtime - asked_at[0] < 0.5


def test_a_writer_that_died_before_it_could_wake_the_engine_is_noticed_with_the_next_turn(
    engine: Engine, home: Home
) -> None:
    slow = ask(engine.parts, job("a", "sleep 0.3"), name="slow")
    with another_process(home) as parts:
        silent = ask(parts, job("b", "true"), name="silent")
    run_until(engine, finished(engine, slow, silent))


def test_an_engine_that_has_nothing_to_do_sleeps(engine: Engine) -> None:
    run = ask(engine.parts, job("a", "true"))
    run_until(engine, finished(engine, run))
    before = time.process_time()
    turns = 0

    def count() -> bool:
        nonlocal turns
        turns += 1
        return False

    timer = threading.Timer(0.6, lambda: (engine.stop(), wake(engine.home)))  # type: ignore[func-returns-value]
    timer.start()
    engine.run(until=count)
    timer.join()
    assert turns < 12
    assert time.process_time() - before < 0.1


# --- writers who meet -----------------------------------------------------------------------------------------------------


def test_people_who_meddle_with_sixty_jobs_leave_a_run_that_ends_and_a_history_that_holds(
    engine: Engine, home: Home
) -> None:
    """Fault 56."""
    jobs = [job(f"j{n}", "sleep 0.02", *([f"j{n - 6}"] if n >= 6 else [])) for n in range(60)]
    run = ask(engine.parts, *jobs, parallelism=6)
    over = threading.Event()

    def meddle() -> None:
        with another_process(home) as parts:
            number = 59
            while not over.is_set() and number > 30:
                name = JobName(f"j{number}")
                try:
                    if number % 2:
                        parts.control.cancel(run, by="ann", job=name)
                    else:
                        parts.control.mark(run, name, "succeeded", by="ann", reason="I know")
                except Rejected:
                    pass
                wake(home)
                number -= 1

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        run_until(engine, finished(engine, run))
    finally:
        over.set()
        thread.join()
    state = state_of(engine.parts, run)
    assert state.tally["cancelled"] > 0
    assert all(len(one.attempts) <= 1 for one in state.jobs.values())
    check_chain(list(engine.parts.loader.records(run_stream(run))))


def test_a_run_that_was_pruned_and_asked_for_again_begins_anew(engine: Engine, home: Home) -> None:
    engine.parts.control.register(document(job("a", "true")), name="a.json", by="ann")
    run = engine.parts.control.request_run(WorkflowName("small"), {}, by="ann", key="k").run
    run_until(engine, finished(engine, run))
    with another_process(home) as parts:
        assert parts.store.forget_run(run)
        parts.control.request_run(WorkflowName("small"), {}, by="bob", key="k")
        wake(home)
    run_until(engine, lambda: state_of(engine.parts, run).finished)
    assert state_of(engine.parts, run).request.requested_by == "bob"


def test_a_run_that_is_reopened_while_its_end_is_being_put_into_the_lists_keeps_its_due_row(
    engine: Engine, home: Home, tmp_path: Path
) -> None:
    script = f"test -e {tmp_path}/mended"
    run = ask(engine.parts, job("a", script))
    with another_process(home) as parts:

        def ended() -> bool:
            known = engine.parts.transact.kept(run_stream(run))
            if known is None or not isinstance(known.state, Run) or known.state.outcome != "failed":
                return False
            # The engine knows the end and has not put it into the lists; somebody is faster.
            (tmp_path / "mended").touch()
            parts.control.rerun(run, by="ann", failed=True)
            return True

        # Nothing is flushed before the end.
        engine._views_at = time.monotonic() + 3600
        run_until(engine, ended)
        assert parts.dues.get(run_stream(run)) is not None
    engine._views_at = 0.0
    run_until(engine, finished(engine, run))
    assert state_of(engine.parts, run).outcome == "succeeded"


def test_work_that_a_wrapper_took_and_never_began_is_begun(home: Home, tmp_path: Path) -> None:
    """As when the wrapper is killed in the instant between taking the work and starting it."""
    file = tmp_path / "file"
    with Engine(home, environment={"PATH": os.environ["PATH"]}) as engine:
        run = ask(engine.parts, job("a", f"echo x >> {file}"))
        guard = home.path / "runs" / run / "a" / "1"
        guard.mkdir(parents=True)
        # No process has this number.
        (guard / "pid").write_text("4194304\n")
        run_until(engine, finished(engine, run))
        state = state_of(engine.parts, run)
        assert state.outcome == "succeeded"
        assert file.read_text() == "x\n"
        assert [one.attempt for one in state.jobs[JobName("a")].attempts] == [1]


def test_our_own_mistake_with_one_attempt_leaves_the_others_alone(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 45."""
    observe = engine.executor.observe

    def fails_for_one(references: Any) -> Any:
        if any(reference.job == "bad" for reference in references):
            raise ZeroDivisionError("a mistake")
        return observe(references)

    engine.executor.observe = fails_for_one  # type: ignore[method-assign]
    run = ask(engine.parts, job("bad", "true"), job("a", "true"), job("b", "true", "a"))
    with caplog.at_level(logging.ERROR):
        run_until(engine, lambda: state_of(engine.parts, run).tally.get("succeeded") == 2)
    assert "a mistake" in caplog.text
    # When it is mended, the attempt's end is still there to be learnt.
    engine.executor.observe = observe  # type: ignore[method-assign]
    run_until(engine, finished(engine, run))


def test_the_second_engine_of_a_home_is_refused_and_told_who_has_it(engine: Engine, home: Home) -> None:
    with pytest.raises(EngineBusy, match=str(os.getpid())):
        Engine(home)
    assert engine_process(home) == os.getpid()
    engine.close()
    assert engine_process(home) is None
    Engine(home).close()


# --- a disk that is full ----------------------------------------------------------------------------------------------------


def test_a_full_disk_delays_and_loses_nothing(engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = [tmp_path / f"f{n}" for n in range(6)]
    jobs = [
        job(f"j{n}", f"echo x >> {file}; sleep 0.05", *([f"j{n - 1}"] if n else [])) for n, file in enumerate(files)
    ]
    run = ask(engine.parts, *jobs)
    run_until(engine, files[1].exists)
    # SQLite's own limit on the size of the file behaves as a full disk does.
    (pages,) = engine.parts.database.rows("PRAGMA page_count")[0]
    engine.parts.database.run(f"PRAGMA max_page_count = {pages}")
    filler = "x" * 3000

    def fill() -> None:
        for number in range(10_000):
            engine.parts.database.run(
                "INSERT INTO snapshots VALUES (?, 0, 1, '', 0, CAST(? AS BLOB))", (f"filler{number}", filler)
            )

    with pytest.raises(StoreUnavailable, match="full"):
        fill()
    timer = threading.Timer(0.5, wake, (engine.home,))
    timer.start()
    freed_at = time.monotonic() + 0.4

    def free_space() -> bool:
        if time.monotonic() < freed_at:
            return False
        engine.parts.database.run("PRAGMA max_page_count = 1000000")
        return True

    with caplog.at_level(logging.ERROR):
        run_until(engine, free_space)
        run_until(engine, finished(engine, run))
    timer.join()
    assert "disk is full" in caplog.text
    assert state_of(engine.parts, run).outcome == "succeeded"
    assert [file.read_text() for file in files] == ["x\n"] * 6


# --- one bad stream ---------------------------------------------------------------------------------------------------------


def test_a_stream_of_a_newer_release_is_left_alone_and_the_others_go_on(engine: Engine) -> None:
    """Fault 48."""
    strange = run_stream(RunId("strange@1"))
    engine.parts.store.append(
        record_of(
            strange,
            version=1,
            commit_id=CommitId("c"),
            at=utc_now(),
            by="newer",
            cause="",
            previous_hash=FIRST_HASH,
            events=[UnknownEvent(type="RunTeleported", fields={})],
        )
    )
    engine.parts.dues.lower(strange, utc_now())
    run = ask(engine.parts, job("a", "true"), job("b", "true", "a"))
    run_until(engine, finished(engine, run))
    row = engine.parts.dues.get(strange)
    assert row is not None
    assert row > utc_now()


def test_a_document_that_is_gone_stops_its_own_runs_only(engine: Engine, home: Home, tmp_path: Path) -> None:
    lost = ask(engine.parts, job("a", "true"), name="lost")
    digest = state_of(engine.parts, lost).plan.digest
    (home.documents / digest[:2] / digest).unlink()
    engine.close()
    with Engine(home) as again:
        run = ask(again.parts, job("a", "true"), name="whole")
        run_until(again, finished(again, run))


# --- many jobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_of_ten_thousand_jobs_starts_and_is_cancelled(engine: Engine) -> None:
    jobs = [job(f"j{number}", "sleep 30") for number in range(10_000)]
    run = ask(engine.parts, *jobs, parallelism=4)
    run_until(engine, lambda: engine.parts.transact.kept(run_stream(run)) and len(engine.executor.running()) == 4)
    engine.parts.control.cancel(run, by="ann")
    run_until(engine, finished(engine, run))
    state = state_of(engine.parts, run)
    assert state.outcome == "cancelled"
    assert state.tally == {"cancelled": 10_000}
    assert max(len(record.body) for record in engine.parts.loader.records(run_stream(run))) < 100_000


# --- documents ------------------------------------------------------------------------------------------------------------


def live_version(engine: Engine, name: str = "small") -> int | None:
    state = engine.parts.loader.load(workflow_stream(WorkflowName(name))).state
    return state.live.number if isinstance(state, WorkflowState) and state.live is not None else None


def upload(engine: Engine, key: str = "small.json") -> Upload:
    state = engine.parts.loader.load(document_stream(key)).state
    assert isinstance(state, Upload)
    return state


def test_documents_that_are_dropped_are_registered_bad_ones_refused_and_the_last_good_one_stays(
    engine: Engine, home: Home
) -> None:
    """Faults 51 and 52."""
    path = home.workflows / "small.json"
    first, second = document(job("a", "true")), document(job("a", "true"), job("b", "true", "a"))
    path.write_bytes(first)
    run_until(engine, lambda: live_version(engine) == 1)
    run_until(engine, lambda: engine.parts.views.get_workflow(WorkflowName("small")))
    # An upload that was cut off, and then completed.
    path.write_bytes(second[:40])
    run_until(engine, lambda: upload(engine).problems)
    assert live_version(engine) == 1
    path.write_bytes(second)
    run_until(engine, lambda: live_version(engine) == 2)
    assert not upload(engine).problems
    # The same again is nothing new.
    version = engine.parts.loader.load(document_stream("small.json")).version
    path.write_bytes(second)
    (home.workflows / "other.json").write_bytes(document(job("a", "true"), name="other"))
    run_until(engine, lambda: live_version(engine, "other") == 1)
    assert engine.parts.loader.load(document_stream("small.json")).version == version
    # Removing the file unregisters nothing.
    path.unlink()
    run_until(engine, lambda: upload(engine).removed)
    assert live_version(engine) == 2


def test_documents_that_need_each_other_are_registered_in_whatever_order_they_lie_in_the_folder(home: Home) -> None:
    home.make()
    daily = {"schedule": {"cron": "0 2 * * *"}}
    for name, needs in (("a", "b"), ("b", "c"), ("c", None), ("d", "nobody")):
        waits = {"waits_for": [{"workflow": needs}]} if needs else {}
        (home.workflows / f"{name}.json").write_bytes(document(job("a", "true"), name=name, **daily, **waits))
    with Engine(home, environment={"PATH": os.environ["PATH"]}) as engine:
        run_until(engine, lambda: live_version(engine, "a") == 1)
        assert [live_version(engine, name) for name in "bcd"] == [1, 1, None]
        assert upload(engine, "d.json").problems
        assert engine.metrics.documents_rejected == 1


def test_what_is_no_file_is_never_waited_for(engine: Engine, home: Home) -> None:
    os.mkfifo(home.workflows / "pipe.json")
    (home.workflows / "directory.json").mkdir()
    (home.workflows / "small.json").write_bytes(document(job("a", "true")))
    run_until(engine, lambda: live_version(engine) == 1)


def test_a_file_whose_name_is_no_text_is_refused_and_ends_nothing(
    engine: Engine, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 51."""
    (home.workflows / os.fsdecode(b"caf\xe9.json")).write_bytes(document(job("a", "true"), name="cafe"))
    (home.workflows / "small.json").write_bytes(document(job("a", "true")))
    run_until(engine, lambda: live_version(engine) == 1)
    assert "caf\N{REPLACEMENT CHARACTER}.json is not registered: its name is not UTF-8" in caplog.text


def test_a_folder_that_was_replaced_is_watched_still(engine: Engine, home: Home) -> None:
    (home.workflows / "small.json").write_bytes(document(job("a", "true")))
    run_until(engine, lambda: live_version(engine) == 1)
    home.workflows.rename(home.path / "old")
    run_until(engine, home.workflows.exists)
    (home.workflows / "other.json").write_bytes(document(job("a", "true"), name="other"))
    run_until(engine, lambda: live_version(engine, "other") == 1)


def test_a_restart_registers_nothing_again_after_a_rollback(home: Home) -> None:
    path = home.workflows / "small.json"
    with Engine(home) as engine:
        path.write_bytes(document(job("a", "true")))
        run_until(engine, lambda: live_version(engine) == 1)
        path.write_bytes(document(job("a", "false")))
        run_until(engine, lambda: live_version(engine) == 2)
        engine.parts.control.register_version(WorkflowName("small"), 1, by="ann")
    with Engine(home) as engine:
        (home.workflows / "other.json").write_bytes(document(job("a", "true"), name="other"))
        run_until(engine, lambda: live_version(engine, "other") == 1)
        assert live_version(engine) == 3
        state = engine.parts.loader.workflow(WorkflowName("small"))
        assert state.versions[2].document == state.versions[0].document


def test_a_one_off_in_the_past_runs_at_once_and_once(engine: Engine, home: Home) -> None:
    (home.workflows / "small.json").write_bytes(document(job("a", "true"), schedule={"at": "2020-01-01T00:00:00Z"}))
    run_until(engine, lambda: rows_of(engine) and rows_of(engine)[0].status == "succeeded")
    assert [row.run for row in rows_of(engine)] == ["small@2020-01-01T00:00:00Z"]


def test_a_schedule_of_every_second_runs_every_second(engine: Engine) -> None:
    engine.parts.control.register(document(job("a", "true"), schedule={"rate": "1 second"}), name="a.json", by="ann")
    run_until(engine, lambda: len([row for row in rows_of(engine) if row.status == "succeeded"]) >= 2)
    for row in rows_of(engine):
        assert row.scheduled_at is not None
        assert (row.requested_at - row.scheduled_at).total_seconds() < 0.5


def rows_of(engine: Engine) -> list[RunRow]:
    return engine.parts.views.runs()[0]


# --- lists, and what is left ------------------------------------------------------------------------------------------------


def test_lists_are_what_the_events_say(engine: Engine) -> None:
    """I8."""
    runs = [
        ask(engine.parts, job("a", "true"), job("b", "false", "a"), job("c", "true", "b"), name="one"),
        ask(engine.parts, job("a", "true"), name="two", overlap="queue"),
    ]
    run_until(engine, finished(engine, *runs))
    engine.parts.control.pause(WorkflowName("one"), by="ann")
    run_until(engine, lambda: engine.parts.views.get_workflow(WorkflowName("one")).paused)  # type: ignore[union-attr]
    run_until(engine, lambda: not engine.parts.views.get_workflow(WorkflowName("two")).active_runs)  # type: ignore[union-attr]
    rebuilt = MemoryViews()
    for kind in ("run", "workflow"):
        for stream in engine.parts.store.streams(kind):
            put(rebuilt, engine, engine.parts.loader.load(stream))
    assert rows_of(engine) == rebuilt.runs()[0]
    assert engine.parts.views.workflows()[0] == rebuilt.workflows()[0]


def put(views: MemoryViews, engine: Engine, loaded: Loaded) -> None:
    match loaded.state:
        case Run() as run:
            views.put_run(run_row(run, loaded.version))
        case WorkflowState() as workflow:
            newest = workflow.live or workflow.versions[-1]
            views.put_workflow(workflow_row(workflow, loaded.version, engine.parts.plans(newest.document)))
        case _:
            pass


def test_runs_that_ended_leave_nothing_behind(engine: Engine) -> None:
    engine.parts.control.register(document(job("a", "true"), job("b", "true", "a")), name="a.json", by="ann")

    def some() -> None:
        runs = [engine.parts.control.request_run(WorkflowName("small"), {}, by="ann").run for _ in range(40)]
        run_until(engine, finished(engine, *runs))

    some()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    some()
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors
    assert engine.executor.running() == []
    assert not engine.executor.watch_fds()
    assert len(engine._transact._kept) <= 70
    assert len(engine._transact._rows) <= 70
    assert len(engine._queue) == 0
    due = engine.parts.dues.due(utc_now() + timedelta(days=1))
    assert [row.stream for row in due] == ["workflow#small"]


def test_the_engine_imports_nothing_that_it_does_not_need() -> None:
    """Idle it has 60 MB at most, and it starts within a second."""
    script = (
        "import sys, local.engine; "
        "print([name for name in ('boto3', 'rich', 'click', 'jinja2', 'jsonschema', 'yaml') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
