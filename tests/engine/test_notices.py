"""The engine of one machine tells people: real mail, real HTTP, real programs; a channel that fails holds up nothing, and an engine that
dies tells again what it cannot know was told."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.engine import Engine
from local.home import Home
from shared.ids import RunId, notices_stream, run_stream
from shared.state.notices import NoticeLog
from tests.engine.test_engine import ask, finished, job, run_until, state_of
from tests.receivers import hook, mailbox

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HOOK": "shared"}


def engine_with(tmp_path: Path, **notices: Any) -> Engine:
    home = Home(tmp_path / "home")
    home.make()
    home.settings.write_text(json.dumps({"notices": notices}))
    return Engine(home, environment=ENVIRONMENT, watch_documents=False)


def log_of(engine: Engine, run: RunId) -> NoticeLog:
    state = engine.parts.loader.load(notices_stream(run_stream(run))).state
    assert isinstance(state, NoticeLog)
    return state


def told(engine: Engine, run: RunId, count: int = 1) -> Callable[[], bool]:
    """Whether so many notices of the run are over."""
    return lambda: len([one for one in log_of(engine, run).sending if one.status != "open"]) >= count


def test_whoever_asked_for_it_is_told_by_every_channel(tmp_path: Path) -> None:
    kept = tmp_path / "told"
    with hook() as receiver, mailbox() as mails:
        smtp = {"host": "127.0.0.1", "port": mails.port, "sender": "runfold@example.com", "tls": "none"}
        with engine_with(tmp_path, smtp=smtp, private_webhooks=True, address="https://runfold.example.com") as engine:
            rules = [
                {"on": ["failed"], "webhook": receiver.url, "secret": "env:HOOK"},
                {"on": ["failed", "succeeded"], "email": "team@example.com"},
                {
                    "on": ["failed"],
                    "command": [sys.executable, "-c", f"import sys; open({str(kept)!r}, 'w').write(sys.stdin.read())"],
                },
                {"on": ["failed"], "sns": "arn:aws:sns:eu-central-1:123456789012:alerts"},
            ]
            run = ask(engine.parts, job("load", "exit 3"), notify=rules)
            run_until(engine, told(engine, run, 4))
            log = log_of(engine, run)
            assert [(one.notice.channel, one.status) for one in log.sending] == [
                ("webhook", "sent"),
                ("email", "sent"),
                ("command", "sent"),
                ("sns", "failed"),
            ]
            assert "no SNS" in log.sending[3].reason
            ((_, headers, body),) = receiver.requests
            assert headers["runfold-notice"] == log.sending[0].notice.id
            assert headers["runfold-signature"].startswith("t=")
            assert json.loads(body)["run"] == run
            ((recipient, mail),) = mails.mails
            assert recipient == "team@example.com"
            assert f"https://runfold.example.com/v1/runs/{run}" in str(mail.get_payload())
            assert json.loads(kept.read_text())["id"] == log.sending[2].notice.id
            run_until(engine, lambda: engine.parts.dues.next_at() is None or True)
            row = engine.parts.views.get_notices(run_stream(run))
            assert row is not None
            assert (row.open, row.failed, [one["status"] for one in row.notices]) == (0, 1, ["sent"] * 3 + ["failed"])


def test_an_engine_for_one_run_tells_before_it_leaves(tmp_path: Path) -> None:
    with hook() as receiver, engine_with(tmp_path, private_webhooks=True) as engine:
        run = ask(engine.parts, job("load", "true"), notify=[{"on": ["succeeded"], "webhook": receiver.url}])
        run_until(engine, finished(engine, run))
        assert len(receiver.requests) == 1
        assert [one.status for one in log_of(engine, run).sending] == ["sent"]


def test_a_channel_that_is_busy_is_asked_again_and_holds_up_nothing(tmp_path: Path) -> None:
    with hook() as receiver, engine_with(tmp_path, private_webhooks=True) as engine:
        receiver.answers = [503]
        rules = [{"on": ["failed"], "webhook": receiver.url}, {"on": ["failed"], "command": ["true"]}]
        run = ask(engine.parts, job("load", "false"), notify=rules)
        run_until(engine, told(engine, run))
        assert [one.status for one in log_of(engine, run).sending] == ["open", "sent"]
        run_until(engine, told(engine, run, 2), seconds=60)
        (first, _) = log_of(engine, run).sending
        assert (first.status, first.attempts, len(receiver.requests)) == ("sent", 2, 2)
        assert receiver.requests[0][2] == receiver.requests[1][2]


def test_a_program_that_hangs_holds_up_no_job(tmp_path: Path) -> None:
    with engine_with(tmp_path) as engine:
        rules = [{"on": ["started"], "command": ["sleep", "4"]}]
        began = time.monotonic()
        run = ask(engine.parts, job("load", "true"), job("next", "true", "load"), notify=rules)
        over: list[float] = []

        def done() -> bool:
            if not over and state_of(engine.parts, run).finished:
                over.append(time.monotonic() - began)
            return bool(over) and told(engine, run)()

        run_until(engine, done)
        (one,) = log_of(engine, run).sending
        assert one.status == "sent"
        state = state_of(engine.parts, run)
        assert state.finished_at is not None
        assert one.ended_at is not None
        assert state.finished_at < one.ended_at


def test_what_a_dead_engine_had_planned_its_successor_tells_under_the_same_id(tmp_path: Path) -> None:
    with hook() as receiver:
        with engine_with(tmp_path, private_webhooks=True) as engine:
            run = ask(engine.parts, job("load", "true"), notify=[{"on": ["succeeded"], "webhook": receiver.url}])
            # It dies with the notice planned: whatever the channel answers is nobody's any more.
            engine._tellers.tell = lambda delivery: None  # type: ignore[method-assign]
            run_until(engine, lambda: log_of(engine, run).open)
            planned = log_of(engine, run).open[0].notice.id
        with engine_with(tmp_path, private_webhooks=True) as engine:
            run_until(engine, told(engine, run))
            ((_, headers, _),) = receiver.requests
            assert headers["runfold-notice"] == planned


@pytest.mark.parametrize("outcome", ["false", "true"])
def test_a_run_without_rules_leaves_no_trace_of_notices(tmp_path: Path, outcome: str) -> None:
    with engine_with(tmp_path) as engine:
        run = ask(engine.parts, job("load", outcome))
        run_until(engine, finished(engine, run))
        assert engine.parts.store.read(notices_stream(run_stream(run))) == []


def test_the_first_success_after_a_failed_run_has_recovered(tmp_path: Path) -> None:
    with engine_with(tmp_path) as engine:
        rules = [{"on": ["recovered"], "command": ["true"]}]
        told_of = []
        for script in ("false", "true", "true"):
            run = ask(engine.parts, job("load", script), notify=rules)
            run_until(engine, finished(engine, run))
            told_of.append([one.notice.on for one in log_of(engine, run).sending])
        assert told_of == [[], ["recovered"], []]
