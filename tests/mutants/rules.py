"""Bugs in what decides and what folds: `shared/decide/`, `shared/effects.py`, `shared/state/`."""

from tests.mutants.mutant import Mutant

_RUN = "shared/decide/run.py"
_WORKFLOW = "shared/decide/workflow.py"
_EFFECTS = "shared/effects.py"
_INSTANTS = "shared/decide/instants.py"
_STATE = "shared/state/run.py"
_WORKFLOW_STATE = "shared/state/workflow.py"

_DISPATCH_RULES = ("tests/rules/test_run_dispatch.py", "tests/rules/test_dispatch.py")
_CORNERS = "tests/rules/test_corners.py"
_ADMISSION_RULES = ("tests/rules/test_workflow_admission.py", "tests/rules/test_workflow_admission_walks.py")

_ODD_DAYS = ("tests/rules/test_odd_days.py",)

_POOL = "shared/decide/pool.py"
_PLACES = "shared/decide/places.py"
_POOLS = ("tests/rules/test_pools.py",)

DECIDE = (
    Mutant(
        "pool-grants-one-too-many",
        _POOL,
        "if place is not None and state.weight_of(place) <= state.free else None",
        "if place is not None and state.weight_of(place) <= state.free + 1 else None",
        _POOLS,
    ),
    Mutant(
        "pool-never-looks-at-its-heaviest",
        "shared/state/pool.py",
        "return min(self.awaited[place].weight, max(self.capacity, 1))",
        "return self.awaited[place].weight",
        _POOLS,
    ),
    Mutant(
        "pool-starves-the-low",
        _POOL,
        "state.awaited[place].since <= now - PATIENCE and",
        "state.awaited[place].since <= now - 2 * PATIENCE and",
        _POOLS,
    ),
    Mutant(
        "place-of-another-round-taken",
        _PLACES,
        "if fold.cancel is not None or fold.round != command.round:",
        "if fold.cancel is not None:",
        _POOLS,
    ),
    Mutant(
        "doubt-gives-the-place-back",
        _PLACES,
        "| JobState(phase=Doubted(attempt=attempt))",
        '| JobState(phase=Doubted(attempt=attempt, policy="ask"))',
        _POOLS,
    ),
    Mutant(
        "excluded-days-caught-up",
        _INSTANTS,
        "    if exclusion is None:\n        return schedule.latest(",
        '    if exclusion is None or rule.catchup == "latest":\n        return schedule.latest(',
        _ODD_DAYS,
    ),
    Mutant(
        "lateness-without-bound",
        _INSTANTS,
        "after = max(after, now - bound - _INSTANT)",
        "after = max(after, now - 2 * bound - _INSTANT)",
        _ODD_DAYS,
    ),
    Mutant(
        "outage-ends-at-once",
        _INSTANTS,
        "return (at if now - at <= MISFIRE_GRACE else now) + jitter_of",
        "return at + jitter_of",
        _ODD_DAYS,
    ),
    Mutant(
        "two-in-one-turn",
        _WORKFLOW,
        "next_start_at=turn + spacing)",
        "next_start_at=turn)",
        _ODD_DAYS,
    ),
    Mutant(
        "full-queue-loses",
        _WORKFLOW,
        'if draft.registered.is_full and rule.catchup == "all":',
        'if draft.registered.is_full and rule.catchup == "none":',
        _ODD_DAYS,
    ),
    Mutant(
        "lost-calendar-excludes-nothing",
        "shared/workflow/days.py",
        """            if calendar is None:
                self._lists.append((name, 0, own, None))
""",
        """            if calendar is None:
                continue
""",
        _ODD_DAYS,
    ),
    Mutant(
        "claim-without-second-look",
        _RUN,
        """            attempt == command.attempt
            and command.looked_at is not None
            and min(command.looked_at, draft.now) - since >= SECOND_LOOK_AFTER
        ):
            pass
        case _:
            raise Rejected""",
        """            attempt == command.attempt and command.looked_at is not None
        ):
            pass
        case _:
            raise Rejected""",
        _DISPATCH_RULES,
    ),
    Mutant(
        "refusal-ends-what-was-taken",
        _RUN,
        """        case Queued() | Claimed():
            pass
        case Doubted(handle=None""",
        """        case Queued() | Claimed() | Submitted():
            pass
        case Doubted(handle=None""",
        _DISPATCH_RULES,
    ),
    Mutant(
        "second-execution-believed",
        _RUN,
        """        isinstance(phase, Submitted | Doubted)
        and phase.handle is not None
        and report.handle not in""",
        """        isinstance(phase, Submitted)
        and phase.handle is not None
        and report.handle not in""",
        (_CORNERS,),
    ),
    Mutant(
        "missing-at-once",
        _RUN,
        "if looked_at - submitted_at >= MISSING_AFTER:",
        "if looked_at - submitted_at >= SECOND_LOOK_AFTER:",
        _DISPATCH_RULES,
    ),
    Mutant(
        "missing-counts-from-commit",
        _RUN,
        "looked_at = min(report.looked_at, draft.now) if report.looked_at is not None else draft.now",
        "looked_at = draft.now",
        _DISPATCH_RULES,
    ),
    Mutant(
        "failure-before-cancel-called-cancelled",
        _RUN,
        "if stop is None or _ended_before(report, stop):",
        "if stop is None:",
        ("tests/rules/test_run_people.py", "tests/rules/test_run_failures.py"),
    ),
    Mutant(
        "retry-after-cancelled-job",
        _RUN,
        "if fold.cancel is None and not stopped:",
        "if fold.cancel is None:",
        (_CORNERS,),
    ),
    Mutant(
        "total-timeout-counts-all-rounds",
        "shared/decide/deadlines.py",
        "if attempt.round == round_number:",
        "if attempt.round <= round_number:",
        (_CORNERS,),
    ),
    Mutant(
        "late-report-each-time",
        _RUN,
        """        if text not in ended.late:
            draft.emit(LateReported(job=report.job, attempt=report.attempt, report=text))""",
        """        draft.emit(LateReported(job=report.job, attempt=report.attempt, report=text))""",
        _DISPATCH_RULES,
    ),
    Mutant(
        "stray-each-time",
        _RUN,
        "if handle is None or handle in (draft.fold.job(report.job).strays or ()):",
        "if handle is None:",
        _DISPATCH_RULES,
    ),
    Mutant(
        "double-click-reruns",
        _RUN,
        "if command.request and command.request in fold.reopen_requests:",
        "if command.request in fold.reopen_requests and fold.outcome is None:",
        ("tests/rules/test_run_people.py",),
    ),
    Mutant(
        "one-too-many-beside",
        _RUN,
        "while fold.active < parallelism and fold.has_ready():",
        "while fold.active <= parallelism and fold.has_ready():",
        ("tests/rules/test_run_progress.py",),
    ),
    Mutant(
        "full-slice-not-said",
        _RUN,
        """        if not draft.room:
            draft.truncated = True
            return
        name = fold.next_ready()""",
        """        if not draft.room:
            return
        name = fold.next_ready()""",
        (_CORNERS,),
    ),
    Mutant(
        "retry-before-total-timeout",
        _RUN,
        """        case "retry":
            return (3, deadline.at)""",
        """        case "retry":
            return (0, deadline.at)""",
        ("tests/rules/test_run_failures.py", "tests/rules/test_run_progress.py"),
    ),
    Mutant(
        "cancel-leaves-timed-out",
        _RUN,
        """                if phase.stop is None or phase.stop.cause == "timeout":
                    _request_stop(draft, name, phase, "cancel", why)""",
        """                if phase.stop is None:
                    _request_stop(draft, name, phase, "cancel", why)""",
        (_CORNERS,),
    ),
    Mutant(
        "given-up-not-assumed",
        _RUN,
        '_fail(draft, lost, "infrastructure", reason, assumed=True)',
        '_fail(draft, lost, "infrastructure", reason)',
        _DISPATCH_RULES,
    ),
    Mutant(
        "targets-clock-believed",
        _RUN,
        "return None if at is None else max(min(at, draft.now), phase.queued_at)",
        "return None if at is None else min(at, draft.now)",
        ("tests/rules/test_run_failures.py",),
    ),
    Mutant(
        "anybody-gives-a-claim-back",
        _RUN,
        "            attempt == command.attempt and claimer == command.claimer\n",
        "            attempt == command.attempt and claimer\n",
        _DISPATCH_RULES,
    ),
    Mutant(
        "skipped-is-success",
        _RUN,
        """            if phase.skipped:
                return "skipped", _first_upstream""",
        """            if phase.skipped and not phase.succeeded:
                return "skipped", _first_upstream""",
        ("tests/rules/test_run_progress.py", "tests/rules/test_run_walks.py"),
    ),
    Mutant(
        "capacity-burns-the-users-attempts",
        "shared/decide/retrying.py",
        "if one.round == round_number and one.failure == failure)",
        "if one.round == round_number and one.failure)",
        ("tests/rules/test_run_failures.py",),
    ),
    Mutant(
        "instants-lost-in-a-cut",
        _WORKFLOW,
        """            draft.truncated = True
            _move_watermark(draft, dealt)
""",
        """            draft.truncated = True
            _move_watermark(draft, draft.now)
""",
        _ADMISSION_RULES,
    ),
    Mutant(
        "pause-forgiven-as-lateness",
        _INSTANTS,
        'if rule.catchup == "none" and rule.at is None and paused is not None:',
        'if rule.catchup == "none" and rule.at is None and paused is None and paused:',
        _ADMISSION_RULES,
    ),
    Mutant(
        "same-instant-twice",
        _WORKFLOW,
        """    if state.knows(request.run):
        # The same instant under a schedule that was there before: it is a run already.
        return
""",
        "",
        (_CORNERS,),
    ),
    Mutant(
        "queue-jumped",
        _WORKFLOW,
        "if ahead and (limit is not None or spacing is not None):",
        "if ahead and spacing is not None:",
        (_CORNERS,),
    ),
    Mutant(
        "displaces-one-too-few",
        _WORKFLOW,
        "staying[: max(len(staying) - limit + 1, 0)]",
        "staying[: max(len(staying) - limit, 0)]",
        _ADMISSION_RULES,
    ),
    Mutant(
        "changed-schedule-kept",
        _WORKFLOW,
        "kept = state.live is not None and old is not None and old == new and state.watermark is not None",
        "kept = state.live is not None and old is not None and state.watermark is not None",
        _ADMISSION_RULES,
    ),
    Mutant(
        "end-lets-nobody-in",
        _WORKFLOW,
        "scheduled_at=holder.scheduled_at))\n                _let_in(draft)",
        "scheduled_at=holder.scheduled_at))",
        _ADMISSION_RULES,
    ),
    Mutant(
        "poll-that-breeds",
        _EFFECTS,
        "if isinstance(effect, StartAttempt) or (isinstance(effect, StopAttempt) and not _stop_accepted(state)):",
        "if not isinstance(effect, StopAttempt) or not _stop_accepted(state):",
        ("tests/rules/test_run_dispatch.py", "tests/engine/test_repairs.py"),
    ),
    Mutant(
        "tick-that-breeds",
        _EFFECTS,
        "ready = ready and (not state.holders or state.next_start_at is not None)",
        "ready = ready or bool(state.waiting)",
        _ADMISSION_RULES,
    ),
    Mutant(
        "stop-before-handle-forgotten",
        _EFFECTS,
        "case AttemptSubmitted() if _to_be_stopped(run, event):",
        "case AttemptSubmitted() if _to_be_stopped(run, event) and event.started_at is not None:",
        ("tests/rules/test_run_failures.py", _CORNERS),
    ),
    Mutant(
        "claim-without-due-time",
        _EFFECTS,
        """        case Claimed(send_before=send_before):
            moments.append(send_before)
""",
        """        case Claimed():
            return max([now + timedelta(hours=1), *moments])
""",
        (_CORNERS,),
    ),
    Mutant(
        "displaced-cancelled-once",
        _EFFECTS,
        """        if holder.displaced_by is not None:
            effects.append(CancelDisplaced(run, holder.displaced_by))
    old =""",
        """        if holder.displaced_by is not None and everything:
            effects.append(CancelDisplaced(run, holder.displaced_by))
    old =""",
        _ADMISSION_RULES,
    ),
)

STATE = (
    Mutant(
        "first-request-forgotten",
        _STATE,
        "asked_from = phase.asked_from if isinstance(phase, Doubted) else None",
        "asked_from = None",
        _DISPATCH_RULES,
    ),
    Mutant(
        "doubt-forgets-handle",
        _STATE,
        "submitted.handle if submitted else None,",
        "None,",
        _DISPATCH_RULES,
    ),
    Mutant(
        "flag-leaks",
        _STATE,
        """        self._leave(phase)
        if event.job not in""",
        """        self._leave_doubt(phase)
        self.active -= 1
        if event.job not in""",
        (_CORNERS,),
    ),
    Mutant(
        "attempts-begin-again",
        _STATE,
        "attempts, strays = state.attempts, state.strays\n            else:",
        "attempts, strays = (), state.strays\n            else:",
        ("tests/rules/test_run_people.py",),
    ),
    Mutant(
        "removed-job-begins-again",
        _STATE,
        "attempts, strays = removed.pop(name, ()), None",
        "attempts, strays = (), None",
        ("tests/rules/test_run_people.py",),
    ),
    Mutant(
        "mark-not-counted",
        _STATE,
        "                self._recount(event.job, outcome, event.outcome)\n",
        "",
        ("tests/rules/test_run_people.py",),
    ),
    Mutant(
        "earlier-strays-forgotten",
        _STATE,
        "strays = {**(strays or {}), event.handle: event.attempt}",
        "strays = {event.handle: event.attempt}",
        (_CORNERS,),
    ),
    Mutant(
        "older-success-wins",
        _WORKFLOW_STATE,
        "previous = max(previous, event.scheduled_at) if previous is not None else event.scheduled_at",
        "previous = event.scheduled_at",
        _ADMISSION_RULES,
    ),
    Mutant(
        "unregistered-still-due",
        _WORKFLOW_STATE,
        "return replace(state, live=None, next_at=None, at=at, changed_at=at)",
        "return replace(state, live=None, at=at, changed_at=at)",
        _ADMISSION_RULES,
    ),
    Mutant(
        "ready-job-never-looked-at",
        _STATE,
        "if timeouts.queue_minutes is not None or (timeouts.total_minutes is not None and state.attempts):",
        "if timeouts.queue_minutes is not None:",
        ("tests/rules/test_run_failures.py", "tests/rules/test_run_progress.py"),
    ),
    Mutant(
        "end-is-never-late",
        "shared/decide/run.py",
        "for late in lateness_events(fold.pace, fold.plan.workflow, draft.now):",
        "for late in lateness_events(fold.pace, fold.plan.workflow, draft.now) if fold.unfinished else []:",
        ("tests/rules/test_lateness.py",),
    ),
    Mutant(
        "notice-planned-twice",
        "shared/decide/notices.py",
        "new = tuple(notice for notice in command.notices if notice.version > state.until)",
        "new = tuple(command.notices)",
        ("tests/rules/test_notices.py",),
    ),
    Mutant(
        "shared-address-is-public",
        "shared/couriers/addresses.py",
        "return found.is_global and not found.is_multicast and not found.is_reserved",
        "return not found.is_private",
        ("tests/security/test_notices.py",),
    ),
)
