"""Bugs in what carries data between the rules and the world: use cases, doorways, views, the engine of one machine."""

from tests.mutants.mutant import Mutant

_TRANSACT = "shared/usecases/transact.py"
_SWEEP = "shared/usecases/sweep.py"
_DISPATCH = "shared/usecases/dispatch.py"
_WORK = "shared/usecases/work.py"
_ADMISSION = "shared/usecases/admission.py"
_RELAY = "functions/relay/handler.py"

_CRASHES = ("tests/engine/test_crash_points.py", "tests/engine/test_repairs.py")
_REPAIRS = ("tests/engine/test_repairs.py", "tests/engine/test_crash_points.py")
_DECIDING = "tests/engine/test_deciding.py"
_SWEEPING = "tests/engine/test_sweeping.py"
_RELAYING = "tests/functions/test_relaying.py"
_CORNERS = "tests/rules/test_corners.py"
_WORKING = "tests/engine/test_working.py"
_GIVEN_BACK = "tests/functions/test_given_back.py"
_DISPATCH_CORNERS = "tests/rules/test_dispatch_corners.py"
_BATCHES = "tests/engine/test_batches.py"
_DOORWAYS = ("tests/functions/test_doorways.py",)
_DISPATCH_RULES = ("tests/rules/test_dispatch.py",)

TRANSACT = (
    Mutant(
        "tick-without-room-breeds",
        _TRANSACT,
        "if any(isinstance(command, Tick) for command in commands):",
        "if not commands:",
        ("tests/engine/test_midnight.py",),
    ),
    Mutant(
        "due-row-after-commit",
        _TRANSACT,
        """            row, moved = self._lower_due(stream, needed, now, new=record.version == 1)
            self._events.append(record)
""",
        """            self._events.append(record)
            row, moved = self._lower_due(stream, needed, now, new=record.version == 1)
""",
        _CRASHES,
    ),
    Mutant(
        "row-left-under-a-sweep",
        _TRANSACT,
        "            needed = row - timedelta(microseconds=1)\n",
        "            return row, False\n",
        _REPAIRS,
    ),
    Mutant(
        "rejected-on-an-old-state",
        _TRANSACT,
        "in_doubt = rejected or not (draft.events or all(map(_is_hint, commands)))",
        "in_doubt = not rejected and not (draft.events or all(map(_is_hint, commands)))",
        (_DECIDING,),
    ),
    Mutant(
        "nothing-to-do-on-an-old-state",
        _TRANSACT,
        "in_doubt = rejected or not (draft.events or all(map(_is_hint, commands)))",
        "in_doubt = bool(rejected)",
        (_DECIDING,),
    ),
    Mutant(
        "cut-decision-not-advanced",
        _TRANSACT,
        """            if draft.truncated:
                effects.append(AdvanceRun(state.run))
""",
        "",
        (_DECIDING,),
    ),
    Mutant(
        "effects-before-commit",
        _TRANSACT,
        """        state = _frozen(draft)
        try:
            self._store(loaded,""",
        """        state = _frozen(draft)
        self._effects.send(_effects(state, draft))
        try:
            self._store(loaded,""",
        (_DECIDING,),
    ),
    Mutant(
        "twin-taken-for-oneself",
        _TRANSACT,
        "commit_id=CommitId(self._new_id()),",
        "commit_id=CommitId(cause),",
        (_DECIDING,),
    ),
    Mutant(
        "reopened-run-keeps-no-row",
        _TRANSACT,
        "before.state.opened and not before.state.finished",
        "before.state.opened",
        (_DECIDING,),
    ),
    Mutant(
        "rows-remembered-too-long",
        _TRANSACT,
        """            # Others were here: with an end among their commits the row may have gone, and come back elsewhere.
            self._rows.pop(stream, None)
""",
        """            pass
""",
        _REPAIRS,
    ),
    Mutant(
        "first-row-swept-away",
        _TRANSACT,
        "            elif self._rhythm.every is None and record.version == 1:\n",
        "            elif self._rhythm.every is None and record.version == 0:\n",
        _REPAIRS,
    ),
    Mutant(
        "rest-of-a-batch-forgotten",
        _TRANSACT,
        "        while taken < len(commands):\n",
        "        if taken < len(commands):\n",
        (_DECIDING,),
    ),
    Mutant(
        "commit-time-goes-back",
        _TRANSACT,
        """        if loaded.at is not None and loaded.at > now:
            now = loaded.at
""",
        "",
        (_DECIDING,),
    ),
    Mutant(
        "retry-sent-early",
        _TRANSACT,
        "ceil((at - now).total_seconds())",
        "int((at - now).total_seconds())",
        (_DECIDING,),
    ),
    Mutant(
        "wrong-one-refused",
        _TRANSACT,
        "{position + taken: reason for position, reason in following.rejected.items()}",
        "{position: reason for position, reason in following.rejected.items()}",
        (_DECIDING,),
    ),
    Mutant(
        "missing-hands-over-again",
        _TRANSACT,
        """if (job := getattr(command, "job", None)) is not None and getattr(command, "status", "") != "missing\"""",
        """if (job := getattr(command, "job", None)) is not None""",
        _REPAIRS,
    ),
    Mutant(
        "snapshot-without-proof",
        "shared/usecases/loading.py",
        "if not proof or proof[0].version != kept.version or proof[0].hash != kept.hash:",
        "if not proof or proof[0].version != kept.version:",
        ("tests/rules/test_loading.py",),
    ),
)

SWEEP = (
    Mutant(
        "row-removed-before-settling",
        _SWEEP,
        """            self._settle(loaded)
            self._dues.remove(row.stream, seen=row.at)
""",
        """            self._dues.remove(row.stream, seen=row.at)
            self._settle(loaded)
""",
        _CRASHES,
    ),
    Mutant(
        "moved-before-handed-over",
        _SWEEP,
        """        self._effects.send(effects)
        for one in looked:
            self._guarded(one.row, now, partial(self._move, one, now))
""",
        """        for one in looked:
            self._guarded(one.row, now, partial(self._move, one, now))
        self._effects.send(effects)
""",
        (_SWEEPING,),
    ),
    Mutant(
        "row-removed-without-condition",
        _SWEEP,
        "self._dues.remove(row.stream, seen=row.at)",
        "self._dues.remove(row.stream, seen=self._dues.get(row.stream) or row.at)",
        (_SWEEPING,),
    ),
    Mutant(
        "row-raised-without-condition",
        _SWEEP,
        "self._dues.raise_to(row.stream, seen=row.at, at=self._rhythm",
        "self._dues.raise_to(row.stream, seen=self._dues.get(row.stream) or row.at, at=self._rhythm",
        (_SWEEPING,),
    ),
    Mutant(
        "refused-stream-stays-first",
        _SWEEP,
        "            self._dues.raise_to(row.stream, seen=row.at, at=now + timedelta(seconds=REFUSED_SECONDS))\n",
        "",
        (_SWEEPING,),
    ),
    Mutant(
        "polls-missed-between-sweeps",
        _SWEEP,
        "pending_and_due(loaded.state, now, since=row.at, patience",
        "pending_and_due(loaded.state, now, since=now, patience",
        (_SWEEPING,),
    ),
    Mutant(
        "sweep-trusts-memory",
        _SWEEP,
        "loaded = self._transact.current(row.stream)",
        "loaded = self._transact.kept(row.stream) or self._transact.current(row.stream)",
        (_SWEEPING,),
    ),
)

VIEWS = (
    Mutant(
        "relay-derives-what-was",
        _TRANSACT,
        """        if loaded.version < version:
            loaded = self._loader.load(stream, loaded)
""",
        "",
        (_RELAYING,),
    ),
    Mutant(
        "newer-event-blocks-the-shard",
        _RELAY,
        "except (CorruptStream, UnknownEvents) as error:",
        "except CorruptStream as error:",
        (_RELAYING,),
    ),
    Mutant(
        "end-is-no-news",
        _RELAY,
        "not types <= ROUTINE",
        "not types & ROUTINE",
        (_RELAYING,),
    ),
    Mutant(
        "flagged-not-shown",
        "shared/views/rows.py",
        "    if run.flagged:\n",
        "    if run.flagged and not run.doubted:\n",
        (_CORNERS,),
    ),
    Mutant(
        "paused-shows-next",
        "shared/views/rows.py",
        "next_at=state.next_at if state.pause is None else None,",
        "next_at=state.next_at,",
        (_CORNERS,),
    ),
    Mutant(
        "settled-is-assumed",
        "shared/bootstrap/aws.py",
        "if row is not None and row.version >= loaded.version:",
        "if row is not None:",
        (_RELAYING,),
    ),
)

DISPATCH = (
    Mutant(
        "claim-sent-late",
        _DISPATCH,
        "if claimed - self._now() < SENDING:",
        "if claimed <= self._now():",
        _DISPATCH_RULES,
    ),
    Mutant(
        "look-counts-from-the-claim",
        _DISPATCH,
        "StartAttempt(report.run, report.job, report.attempt), looked_at=looked_at)",
        "StartAttempt(report.run, report.job, report.attempt), looked_at=self._now())",
        (_DISPATCH_CORNERS,),
    ),
    Mutant(
        "ask-is-not-asked",
        _DISPATCH,
        """phase.handle is not None or phase.policy == "ask":""",
        """phase.handle is not None:""",
        (_DISPATCH_CORNERS,),
    ),
    Mutant(
        "token-window-ignored",
        _DISPATCH,
        "if window is not None and self._now() - phase.queued_at > timedelta(seconds=window):",
        "if window is None and self._now() - phase.queued_at > timedelta(days=1):",
        _DOORWAYS,
    ),
    Mutant(
        "throttled-is-a-new-attempt",
        _DISPATCH,
        'if executor.runs_at_once:\n            return RecordRefusal(effect.job, effect.attempt, "capacity", reason)',
        'if executor.takes_token:\n            return RecordRefusal(effect.job, effect.attempt, "capacity", reason)',
        _DISPATCH_RULES,
    ),
    Mutant(
        "refused-without-a-look",
        _DISPATCH,
        "if not executor.takes_token or executor.runs_at_once:\n            return [(run.run, refusal)]",
        "if not executor.runs_at_once or executor.runs_at_once:\n            return [(run.run, refusal)]",
        _DISPATCH_RULES,
    ),
    Mutant(
        "cut-short-is-missing",
        _DISPATCH,
        """[report for report in reports if report.status == "missing"]""",
        """[report for report in reports if report.status == "missing" or report.cut_short]""",
        _DISPATCH_RULES,
    ),
    Mutant(
        "send-before-not-told",
        _DISPATCH,
        "            request = replace(request, send_before=claimed)\n",
        "",
        _DISPATCH_RULES,
    ),
    Mutant(
        "starts-on-a-late-read",
        _WORK,
        "lately=lately or asks_only)",
        "lately=True)",
        (_WORKING,),
    ),
    Mutant(
        "learnt-and-forgotten",
        _WORK,
        "committing.append(partial(self._try, again, commit, later))",
        "committing.append(partial(self._try, [], commit, later))",
        (_WORKING,),
    ),
    Mutant(
        "stop-believed-sent",
        _DISPATCH,
        """    except (TargetUnavailable, TargetSilent, TargetRefused):
        return False
    return True""",
        """    except (TargetUnavailable, TargetSilent, TargetRefused):
        return reference.handle is not None
    return True""",
        (_DISPATCH_CORNERS,),
    ),
    Mutant(
        "look-dated-late",
        _DISPATCH,
        """            looked_at = self._now()
            reports = self._executor(kind).observe(references)
""",
        """            reports = self._executor(kind).observe(references)
            looked_at = self._now()
""",
        (_DISPATCH_CORNERS,),
    ),
)

ADMISSION = (
    Mutant(
        "admitted-run-never-opened",
        _ADMISSION,
        "                self.open_run(OpenRun(holder.request))\n",
        "                continue\n",
        (_WORKING,),
    ),
    Mutant(
        "holder-believed-from-memory",
        _ADMISSION,
        "found = self._transact.current(run_stream(run)).state",
        "found = (self._transact.kept(run_stream(run)) or self._transact.current(run_stream(run))).state",
        (_WORKING,),
    ),
    Mutant(
        "one-bad-run-blocks-all",
        _ADMISSION,
        "                continue\n            if not isinstance(found, Run):",
        "                return\n            if not isinstance(found, Run):",
        (_WORKING,),
    ),
)

DOORWAYS = (
    Mutant(
        "reports-not-sent-again",
        "functions/status/handler.py",
        "            again.send(later, delay_seconds=5)\n",
        "",
        (_GIVEN_BACK,),
    ),
    Mutant(
        "failed-look-acknowledged",
        "functions/status/handler.py",
        "                found[body] = error\n",
        "                logger.error(str(error))\n",
        (_GIVEN_BACK,),
    ),
    Mutant(
        "older-upload-wins",
        "functions/register/handler.py",
        "if _identity(found) == _identity(before):",
        "if _identity(found) or not _identity(before):",
        (_GIVEN_BACK,),
    ),
    Mutant(
        "effects-not-sent-again",
        "functions/dispatch/handler.py",
        "            again.send(later, delay_seconds=random.uniform(*RETRY_DELAY_SECONDS))",
        "            random.uniform(*RETRY_DELAY_SECONDS)",
        (_GIVEN_BACK,),
    ),
    Mutant(
        "engine-forgets-what-it-learnt",
        "local/engine.py",
        "            self._learnt = learnt + self._learnt\n",
        "",
        (_BATCHES,),
    ),
    Mutant(
        "engine-effects-before-durable",
        "local/engine.py",
        """            yield
            position = self.parts.store.position()
""",
        """            yield
            self._queue.send(self._outgoing.take())
            position = self.parts.store.position()
""",
        (_BATCHES,),
    ),
)
