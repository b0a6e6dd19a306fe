"""A bug of ours is told in one line, with its kind and a file that holds the rest."""

import logging
import sys
from pathlib import Path

from cli.crashing import REPORTS_MAX, Reports
from tests.cli.calling import Runfold, ssm


def logged(message: str, error: Exception | None = None) -> logging.LogRecord:
    known = None
    if error is not None:
        try:
            raise error
        except ValueError:
            known = sys.exc_info()
    return logging.LogRecord("runfold", logging.ERROR, __file__, 1, message, None, known)


def test_what_the_engine_says_by_itself_is_told_as_it_is(tmp_path: Path) -> None:
    assert Reports(tmp_path).line(logged("run#a is left alone: no document")) == "run#a is left alone: no document"
    assert not (tmp_path / "crashes").exists()


def test_a_bug_that_sets_a_stream_apart_is_named_and_its_traceback_kept(tmp_path: Path) -> None:
    line = Reports(tmp_path).line(logged("run#a is left alone", ValueError("nested too deeply")))
    assert line.startswith("run#a is left alone: a bug of Runfold (ValueError); what happened is written in ")
    kept = Path(line.rpartition(" in ")[2])
    assert kept.parent == tmp_path / "crashes"
    assert "ValueError: nested too deeply" in kept.read_text()


def test_a_bug_that_every_sweep_meets_again_is_kept_once(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    lines = {reports.line(logged("run#a is left alone", ValueError("the same"))) for _ in range(3)}
    assert len(lines) == 1
    assert len(list((tmp_path / "crashes").iterdir())) == 1


def test_bugs_without_end_fill_no_disk(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    for number in range(REPORTS_MAX):
        reports.line(logged(f"run#{number} is left alone", ValueError("another")))
    assert reports.line(logged("run#a", ValueError("one more"))) == "run#a: a bug of Runfold (ValueError)"
    assert len(list((tmp_path / "crashes").iterdir())) == REPORTS_MAX


def test_a_job_whose_outputs_cannot_be_kept_fails_and_its_run_ends(runfold: Runfold) -> None:
    """Fault 55: valid JSON that holds half of a character."""
    runfold.register(ssm("odd", """printf '{"a": "%sud800"}' '\\' > "$RUNFOLD_OUTPUTS" """))
    run = runfold.finished()
    assert run["status"] == "failed"
    assert "surrogate" in run["jobs"][0]["reason"]
