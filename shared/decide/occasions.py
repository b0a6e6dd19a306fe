"""What of a history is worth telling, and how it is worded: a pure function of commits, so that it can be asked of what was recorded
long ago as well (`runfold alerts --would`).

An occasion is told of a commit: a commit holds one decision, and what it led to several times over (doubts of a hundred jobs) is one
thing to tell. How a round did, when it began and how many doubts were told is carried from commit to commit (`Carry`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from shared.events import (
    AttemptDoubted,
    AttemptQueued,
    DeadlineMissed,
    Event,
    InstantsMissed,
    Notice,
    RunBecameLate,
    RunFinished,
    RunReopened,
)
from shared.ids import StreamName, instant_text, kind_of, notice_id, subject_of
from shared.secrecy import without_secrets
from shared.state.run import BAD_OUTCOMES, Done, Run
from shared.workflow.document import Workflow
from shared.workflow.notices import Occasion

DOUBTS_TOLD_MAX = 20
"""Notices of doubt of one run, by each rule: where a target is gone for hours, more of them help nobody."""
TEXT_MAX = 2_000
"""Characters of a notice's text."""
SUBJECT_MAX = 100
"""SNS takes 100 characters."""
NAMED_MAX = 5
"""Jobs that a text names."""
REASON_MAX = 200


@dataclass(frozen=True, slots=True)
class Carry:
    """What has to be known of the commits before."""

    started: bool = False
    outcome: Literal["", "succeeded", "failed"] = ""
    doubts: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """Something worth telling."""

    on: Occasion
    version: int
    at: datetime
    why: str = ""


def occasions(
    version: int, at: datetime, events: Iterable[Event], carry: Carry, *, failed_before: bool = False
) -> tuple[list[Told], Carry]:
    """What a commit gives to tell, in order, each kind once. `failed_before`: whether the workflow's run before this one failed, for
    the first success of a run."""
    told: dict[Occasion, Told] = {}
    doubted: list[str] = []

    def tell(on: Occasion, why: str = "") -> None:
        # The last word of a commit counts: a mark may end a round that was begun for it.
        told[on] = Told(on, version, at, why)

    for event in events:
        match event:
            case AttemptQueued() if not carry.started:
                carry = replace(carry, started=True)
                tell("started")
            case RunReopened():
                carry = replace(carry, started=False)
            case RunBecameLate(cause=cause, due_at=due_at):
                what = "nothing of it had started by" if cause == "start" else "it should have ended by"
                tell("late", f"{what} {instant_text(due_at)}")
            case DeadlineMissed(due_at=due_at):
                tell("deadline", f"it had to end by {instant_text(due_at)}")
            case AttemptDoubted(job=job, attempt=attempt, reason=reason):
                doubted.append(f"{job} (attempt {attempt}): {_short(reason)}")
            case InstantsMissed(first_at=first, last_at=newest, count=count, reason=reason):
                when = (
                    instant_text(first)
                    if count == 1
                    else f"{count} from {instant_text(first)} to {instant_text(newest)}"
                )
                tell("missed", f"{when}: {_short(reason)}")
            case RunFinished(outcome="succeeded"):
                tell("succeeded")
                if carry.outcome == "failed" or (not carry.outcome and failed_before):
                    tell("recovered")
                carry = replace(carry, outcome="succeeded")
            case RunFinished(outcome="failed"):
                tell("failed")
                carry = replace(carry, outcome="failed")
            case _:
                pass
    if doubted:
        carry = replace(carry, doubts=carry.doubts + 1)
        if carry.doubts <= DOUBTS_TOLD_MAX:
            closing = "; no further doubts of this run are told" if carry.doubts == DOUBTS_TOLD_MAX else ""
            tell("doubt", _some(doubted) + closing)
    return list(told.values()), carry


def notices_of(
    source: StreamName, told: Iterable[Told], document: Workflow, run: Run | None, address: str
) -> list[Notice]:
    """The notices that the document's rules make of occasions, each rule and occasion one. `run`: the run that it is about, for what
    its text says beside; `address`: where the API answers, or empty."""
    rules = document.notify or ()
    found: list[Notice] = []
    for one in told:
        subject, text = "", ""
        for position, rule in enumerate(rules):
            if one.on not in rule.on:
                continue
            if not subject:
                subject, text = worded(source, one, document, run, address)
            found.append(
                Notice(
                    id=notice_id(source, one.version, one.on, position),
                    on=one.on,
                    rule=position,
                    version=one.version,
                    at=one.at,
                    channel=rule.channel,
                    to=rule.to,
                    subject=subject,
                    text=text,
                )
            )
    return found


_SAYS: dict[Occasion, str] = {
    "started": "started",
    "succeeded": "succeeded",
    "failed": "failed",
    "recovered": "succeeded again",
    "late": "is late",
    "deadline": "missed its deadline",
    "missed": "missed a scheduled instant",
    "doubt": "is in doubt: nobody can tell whether work of it began",
}


def worded(source: StreamName, told: Told, document: Workflow, run: Run | None, address: str) -> tuple[str, str]:
    """Subject and text: what happened, why, and where to look. Never what looks like a secret."""
    name = subject_of(source)
    says = _SAYS[told.on]
    subject = f"[runfold] {name} {says.partition(':')[0]}"
    lines = [f"{name} {says}."]
    if told.why:
        lines.append(f"Why: {told.why}.")
    if told.on == "failed" and run is not None and run.finished:
        lines.extend(f"- {line}" for line in _bad_jobs(run))
    lines.append(f"When: {instant_text(told.at)}")
    if document.owner:
        lines.append(f"Owner: {document.owner}")
    if kind_of(source) == "run":
        lines.append(f"Ask: runfold why '{name}'")
        if address:
            lines.append(f"See: {address.rstrip('/')}/v1/runs/{name}")
    elif address:
        lines.append(f"See: {address.rstrip('/')}/v1/workflows/{name}")
    text = without_secrets("\n".join(lines))
    subject = without_secrets(subject)
    return (
        subject if len(subject) <= SUBJECT_MAX else subject[: SUBJECT_MAX - 1] + "…",
        text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…",
    )


def _bad_jobs(run: Run) -> list[str]:
    bad = [
        f"{name}: {phase.outcome}" + (f", {_short(phase.reason)}" if phase.reason else "")
        for name in run.plan.jobs
        if isinstance(phase := run.jobs[name].phase, Done) and phase.outcome in BAD_OUTCOMES - {"upstream_failed"}
    ]
    more = [f"and {len(bad) - NAMED_MAX} more"] if len(bad) > NAMED_MAX else []
    return bad[:NAMED_MAX] + more


def _some(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - NAMED_MAX} more" if len(texts) > NAMED_MAX else ""
    return "; ".join(texts[:NAMED_MAX]) + more


def _short(text: str) -> str:
    # Before it is cut, for half a secret is not known for one.
    text = " ".join(without_secrets(text).split()).rstrip(".")
    return text if len(text) <= REASON_MAX else text[: REASON_MAX - 1] + "…"
