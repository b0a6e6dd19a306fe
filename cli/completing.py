"""Completion of shells: the scripts, and names of runs, workflows and jobs out of the home.

Pressing a key must never show an error or change anything, so whatever goes wrong here means: nothing to suggest.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, shell_complete, split_arg_string

from cli.session import Session

if TYPE_CHECKING:
    from shared.bootstrap import LocalParts

SUGGESTIONS_MAX = 50

# Bash cuts words at @, : and =, of which run ids are full, so the script works on the line as it was typed and gives back what
# comes after the last cut.
_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' line="${COMP_LINE:0:$COMP_POINT}" reply kind value word cut
    word="${line##*[[:space:]]}"
    cut="${word%%"${word##*[@:=]}"}"
    while IFS=$'\\n' read -r reply; do
        kind="${reply%%%%,*}"
        value="${reply#*,}"
        if [[ $kind == dir ]]; then
            compopt -o dirnames 2>/dev/null
        elif [[ $kind == file ]]; then
            compopt -o default 2>/dev/null
        else
            COMPREPLY+=("${value#"$cut"}")
        fi
    done < <(COMP_TYPED="$line" %(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class LineBashComplete(BashComplete):
    source_template = _BASH

    @classmethod
    def _check_version(cls) -> None:
        # The script says itself what it needs; starting a bash to ask for its version costs more than it tells.
        return

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ.get("COMP_TYPED", "")
        words = split_arg_string(line)
        incomplete = words.pop() if words and not line[-1:].isspace() else ""
        return words[1:], incomplete


add_completion_class(LineBashComplete, "bash")


def complete(cli: click.Command, instruction: str) -> int:
    """Answer a shell; the exit code."""
    return shell_complete(cli, {}, "runfold", "_RUNFOLD_COMPLETE", instruction)


def script(cli: click.Command, shell: str) -> str:
    """What a shell has to read once so that `runfold` completes."""
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    assert found is not None, shell
    return found(cli, {}, "runfold", "_RUNFOLD_COMPLETE").source()


@contextmanager
def _home(ctx: click.Context) -> Iterator["LocalParts"]:
    session = ctx.find_object(Session) or Session()
    with session.reading() as parts:
        yield parts


Names = Callable[["LocalParts", click.Context, str], Iterator[str]]


def _completer(names: Names) -> Any:
    def suggest(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG001
        try:
            with _home(ctx) as parts:
                found = [name for name in names(parts, ctx, incomplete) if name.startswith(incomplete)]
        except Exception:  # noqa: BLE001  (a key was pressed: there is nobody to tell)
            return []
        return [CompletionItem(name) for name in found[:SUGGESTIONS_MAX]]

    return suggest


def _workflows(parts: "LocalParts", ctx: click.Context, incomplete: str) -> Iterator[str]:  # noqa: ARG001
    rows, _ = parts.views.workflows(limit=1000)
    return (str(row.workflow) for row in rows)


def _runs(parts: "LocalParts", ctx: click.Context, incomplete: str) -> Iterator[str]:
    from shared.ids import WorkflowName
    from shared.ports import RunFilter

    if "@" not in incomplete:
        yield from _workflows(parts, ctx, incomplete)
        page = parts.views.runs(limit=SUGGESTIONS_MAX)
    else:
        where = RunFilter(workflow=WorkflowName(incomplete.partition("@")[0]))
        page = parts.views.runs(where, limit=1000)
    yield from (str(row.run) for row in page.rows)


def _backfills(parts: "LocalParts", ctx: click.Context, incomplete: str) -> Iterator[str]:
    if "@" not in incomplete:
        yield from _workflows(parts, ctx, incomplete)
    rows, _ = parts.views.backfills(limit=SUGGESTIONS_MAX)
    yield from (str(row.backfill) for row in rows)


def _jobs(parts: "LocalParts", ctx: click.Context, incomplete: str) -> Iterator[str]:  # noqa: ARG001
    from cli.finding import find_run, load_run
    from shared.state.run import Run

    state = load_run(parts, find_run(parts, ctx.params["run"])).state
    assert isinstance(state, Run)
    return (str(name) for name in state.plan.jobs)


def _streams(parts: "LocalParts", ctx: click.Context, incomplete: str) -> Iterator[str]:
    yield from _runs(parts, ctx, incomplete)
    if re.match(r"w", incomplete):
        yield from (f"workflow#{name}" for name in _workflows(parts, ctx, ""))


complete_workflow = _completer(_workflows)
complete_run = _completer(_runs)
complete_backfill = _completer(_backfills)
complete_job = _completer(_jobs)
complete_stream = _completer(_streams)
