"""Rebuilding a home whose derived tables were all emptied: lists, due rows and snapshots come back, and everything holds."""

import json
from pathlib import Path

from cli.writing import no_effects, put, row_for
from shared.bootstrap import local_parts, utc_now
from shared.decide.commands import RecordReport
from shared.ids import Handle, JobName, WorkflowName, run_stream
from shared.state.run import FOLD_VERSION
from shared.usecases.loading import SNAPSHOT_EVERY, Loaded
from shared.usecases.rebuild import Difference, rebuild
from shared.usecases.verify import verify

JOBS = SNAPSHOT_EVERY + 5


def test_everything_derived_of_a_long_history_is_made_again(tmp_path: Path) -> None:
    parts = local_parts(tmp_path / "runfold.db", tmp_path / "documents", no_effects, synchronous="NORMAL")
    try:
        jobs = [
            {"name": f"job-{number}", "type": "ssm", "host": "localhost", "commands": ["true"]}
            for number in range(JOBS)
        ]
        document = json.dumps({"name": "long", "parallelism": 1000, "jobs": jobs}).encode()
        parts.control.register(document, name="long.json", by="ann")
        run = parts.control.request_run(WorkflowName("long"), {}, by="ann").run
        stream = run_stream(run)
        with parts.store.batch():
            for number in range(SNAPSHOT_EVERY):
                report = RecordReport(JobName(f"job-{number}"), 1, "succeeded", handle=Handle(f"process {number}"))
                parts.transact(stream, report, by="dispatch", cause="report")
        version = parts.loader.load(stream).version
        assert version >= SNAPSHOT_EVERY
        for table in ("runs", "workflows", "dues", "snapshots"):
            parts.database.run(f"DELETE FROM {table}")

        def settle(loaded: Loaded) -> None:
            put(parts, row_for(parts, loaded.state, loaded.version))
            parts.loader.keep_snapshot(loaded)

        def mended() -> list[Difference]:
            return list(
                rebuild(
                    parts.store,
                    parts.loader,
                    parts.views,
                    parts.dues,
                    derive=lambda _stream, state, at: row_for(parts, state, at),
                    settle=settle,
                    now=utc_now(),
                )
            )

        assert sorted((one.what, one.stream) for one in mended()) == [
            ("due", stream),
            ("missing", stream),
            ("missing", "workflow#long"),
        ]
        kept = parts.snapshots.get(stream, FOLD_VERSION)
        assert kept is not None
        assert kept.version == version
        assert mended() == []
        found = verify(
            parts.store,
            parts.plans,
            now=utc_now(),
            dues=parts.dues,
            views=parts.views,
            derive=lambda _stream, state, at: row_for(parts, state, at),
        )
        assert list(found) == []
    finally:
        parts.close()
