"""A picture of a run: every attempt as a bar, drawn from the run's events alone.

    runfold events RUN --json | python3 examples/picture.py > run.svg

An SVG that needs nothing else and follows the reader's light or dark setting. Standard library only.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from typing import Any

WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 960, 132, 92, 84, 27, 34
BAR = 17

STYLE = """
svg { font: 13px/1 system-ui, -apple-system, "Segoe UI", sans-serif; --card: #ffffff; --ink: #1d2126; --soft: #69717b;
  --line: #e9e7e1; --edge: #dcd9d2; --succeeded: #1f8a5b; --failed: #cf3f32; --cancelled: #b7791f; --waits: #dfe4ea; --retry: #b7791f; }
@media (prefers-color-scheme: dark) { svg { --card: #171a1f; --ink: #eceae4; --soft: #98a1ab; --line: #262b32; --edge: #30363e;
  --succeeded: #35a874; --failed: #e8604f; --cancelled: #d79a3c; --waits: #343b44; --retry: #d79a3c; } }
.card { fill: var(--card); stroke: var(--edge); } text { fill: var(--ink); } .soft { fill: var(--soft); font-size: 12px; }
.title { font-size: 17px; font-weight: 640; } .end { text-anchor: end; } .middle { text-anchor: middle; }
.grid { stroke: var(--line); } .waits { fill: var(--waits); } .succeeded { fill: var(--succeeded); } .failed { fill: var(--failed); }
.cancelled { fill: var(--cancelled); } .inside { fill: #ffffff; font-size: 11.5px; font-weight: 600; } .why { fill: var(--failed); font-size: 12px; }
.backoff { stroke: var(--retry); stroke-width: 2; stroke-dasharray: 2 4; stroke-linecap: round; } .again { fill: var(--retry); font-size: 12px; paint-order: stroke; stroke: var(--card); stroke-width: 4px; }
"""


@dataclass
class Attempt:
    number: int
    queued_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str = "succeeded"
    reason: str = ""
    retry_at: datetime | None = None


@dataclass
class Job:
    name: str
    ready_at: datetime | None = None
    """Since when it waited for a place among the attempts under way."""
    attempts: list[Attempt] = field(default_factory=list)
    settled: str = ""
    settled_at: datetime | None = None


def read(commits: Iterable[dict[str, Any]]) -> tuple[str, datetime, datetime, str, list[Job]]:
    """The run's id, its beginning and end, its outcome, and its jobs in the order in which something happened to them."""
    run, outcome, began, last = "", "running", None, None
    jobs: dict[str, Job] = {}

    def job(name: str) -> Job:
        return jobs.setdefault(name, Job(name))

    for at, event in ((datetime.fromisoformat(one["at"]), event) for one in commits for event in one["events"]):
        began, last = began or at, at
        match event["type"]:
            case "RunRequested":
                run = event["run"]
            case "JobsReady":
                for name in event["jobs"]:
                    job(name).ready_at = at
            case "AttemptQueued":
                job(event["job"]).attempts.append(Attempt(event["attempt"], at))
            case "AttemptSucceeded" | "AttemptFailed" | "AttemptCancelled" as kind:
                attempt = job(event["job"]).attempts[-1]
                attempt.started_at = _moment(event.get("started_at")) or attempt.queued_at
                attempt.ended_at = _moment(event.get("ended_at")) or at
                attempt.outcome = kind.removeprefix("Attempt").lower()
                attempt.reason = event.get("reason") or ""
                attempt.retry_at = _moment(event.get("retry_at"))
            case "JobSettled":
                job(event["job"]).settled, job(event["job"]).settled_at = event["outcome"], at
            case "RunFinished":
                outcome = event["outcome"]
    if began is None or last is None:
        raise SystemExit("there are no events to draw: runfold events RUN --json | python3 examples/picture.py")
    return run, began, last, outcome, list(jobs.values())


def draw(commits: Iterable[dict[str, Any]]) -> str:
    run, began, last, outcome, jobs = read(commits)
    seconds = max((last - began).total_seconds(), 0.001)
    height = TOP + len(jobs) * ROW + BOTTOM
    plot = WIDTH - LEFT - RIGHT

    def x(at: datetime) -> float:
        return LEFT + plot * (at - began).total_seconds() / seconds

    attempts = sum(len(job.attempts) for job in jobs)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Timeline of a run">',
        f"<style>{STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="12"/>',
        f'<text class="title" x="22" y="33">{escape(run.partition("@")[0])} {outcome} in {seconds:.1f} s</text>',
        f'<text class="soft" x="22" y="54">{len(jobs)} jobs, {attempts} attempts · {escape(run)} · {began:%Y-%m-%d %H:%M} UTC</text>',
    ]
    parts += _legend(jobs)
    step = next(
        step for step in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 86_400) if seconds / step <= 12
    )
    for tick in range(int(seconds / step) + 1):
        at = LEFT + plot * tick * step / seconds
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 6}" y2="{height - BOTTOM + 2}"/>')
        parts.append(f'<text class="soft middle" x="{at:.1f}" y="{height - 14}">{tick * step:g} s</text>')
    for number, job in enumerate(jobs):
        top = TOP + number * ROW
        middle = top + BAR / 2
        parts.append(f'<text class="end" x="{LEFT - 12}" y="{middle + 4.5}">{escape(job.name)}</text>')
        parts += _bars(job, top, middle, x)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bars(job: Job, top: float, middle: float, x: Any) -> Iterator[str]:
    if job.settled and job.settled_at is not None:
        side = "end" if x(job.settled_at) > WIDTH * 0.7 else ""
        shift = -6 if side else 6
        yield f'<circle class="waits" cx="{x(job.settled_at):.1f}" cy="{middle}" r="4"/>'
        yield f'<text class="soft {side}" x="{x(job.settled_at) + shift:.1f}" y="{middle + 4.5}">{escape(job.settled)}</text>'
    if job.ready_at is not None and job.attempts and job.ready_at < job.attempts[0].queued_at:
        first = job.attempts[0].queued_at
        yield _bar("waits", x(job.ready_at), x(first), top, "waited for a place")
    for attempt in job.attempts:
        if attempt.started_at is None or attempt.ended_at is None:
            continue
        begin, end = x(max(attempt.started_at, attempt.queued_at)), x(attempt.ended_at)
        took = (attempt.ended_at - attempt.started_at).total_seconds()
        tip = f"{job.name}, attempt {attempt.number}: {attempt.outcome} after {took:.2f} s {attempt.reason}"
        yield _bar(attempt.outcome, begin, end, top, tip)
        if len(job.attempts) > 1 and end - begin > 10:
            label = f"attempt {attempt.number}" if end - begin > 64 else str(attempt.number)
            yield f'<text class="inside middle" x="{(begin + end) / 2:.1f}" y="{middle + 4}">{label}</text>'
        if attempt.retry_at is not None:
            again = x(attempt.retry_at)
            wait = (attempt.retry_at - attempt.ended_at).total_seconds()
            if again - end > 12:
                yield f'<line class="backoff" x1="{end + 5:.1f}" x2="{again - 5:.1f}" y1="{middle}" y2="{middle}"/>'
            if again - end > 90:
                label = f"again in {wait:.1f} s"
                yield f'<text class="again middle" x="{(end + again) / 2:.1f}" y="{middle - 6}">{label}</text>'
        elif attempt.outcome == "failed" and attempt.reason:
            yield f'<text class="why" x="{end + 6:.1f}" y="{middle + 4.5}">{escape(attempt.reason)}</text>'


def _bar(kind: str, begin: float, end: float, top: float, tip: str) -> str:
    # A job that took a millisecond is still seen.
    width = max(end - begin, 3)
    return (
        f'<rect class="{kind}" x="{begin:.1f}" y="{top}" width="{width:.1f}" height="{BAR}" rx="3">'
        f"<title>{escape(tip)}</title></rect>"
    )


def _legend(jobs: list[Job]) -> Iterator[str]:
    names = ["succeeded"]
    seen = {attempt.outcome for job in jobs for attempt in job.attempts}
    names += [name for name in ("failed", "cancelled") if name in seen]
    if any(job.ready_at and job.attempts and job.ready_at < job.attempts[0].queued_at for job in jobs):
        names.append("waits")
    place = WIDTH - 22.0
    for name in reversed(names):
        text = "waits for a place" if name == "waits" else name
        place -= 7.0 * len(text)
        yield f'<text class="soft" x="{place:.1f}" y="33">{text}</text>'
        place -= 17
        yield f'<rect class="{name}" x="{place:.1f}" y="23" width="11" height="11" rx="3"/>'
        place -= 16


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


if __name__ == "__main__":
    sys.stdout.write(draw(json.load(sys.stdin)))
