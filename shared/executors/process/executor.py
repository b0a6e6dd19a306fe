"""Starts `ecs`, `emr` and `ssm` jobs as processes of this machine, and learns how they end without asking again and again.

Every attempt is a session of its own under `wrapper.sh`, which records the exit code in the attempt's directory. So nothing
depends on the engine living: an engine that is killed and started again finds what runs, and the codes of what ended meanwhile
(`evidence.py` reads them). Starting twice starts once, because the wrapper takes the work by creating a file exclusively.

How an engine with one thread and a `selectors` loop uses it:

* once, before the first start: `become_subreaper()`, then `attach(references)` with every attempt that may be running;
* when SIGCHLD arrives (a wake-up descriptor): `reap()` names the attempts that ended; `observe` tells how;
* for work that is not its child (after a restart): register the descriptors of `watch_fds()` for reading, and call `fd_ready(fd)`
  when one is; it closes the descriptor and answers like `reap()`. Compare `watch_fds()` again after `attach`, `reap` and `fd_ready`.
  Where `needs_polling` is true (no pidfd, or more processes than descriptors), call `reap()` every second or so;
* after each `stop`, and then when it says: `tick(now)`, which sends what is due and answers when it wants to be called again;
* at most a few times a second while attempts run: `note_output(now)`.

Nothing here waits: not for work, not for a grace period, not for a slow server.
"""

# Strings instead of Path objects: each Path costs as much as the system call it is for.
# ruff: noqa: PTH101, PTH102, PTH103, PTH112, PTH116, PTH119, PTH120, PTH208

import contextlib
import errno
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from shared.errors import NotFound, TargetRefused, TargetSilent, TargetUnavailable
from shared.executors.process import containers, evidence, logs, system
from shared.executors.process.plan import COMMANDS_FILE, HostSettings, Plan, Planner, Step, request_text
from shared.ids import Handle, JobName, RunId, Token, is_job_name
from shared.ports import Reference, Report, Request

WRAPPER = str(Path(__file__).parent.parent / "wrapper.sh")
FETCH = str(Path(__file__).parent / "fetch.py")
SSH = str(Path(__file__).parent.parent / "ssh.py")
SHELL = "/bin/sh"

REAP_MAX = 10_000
"""Ended children looked at in one call; as many as one run may have jobs."""
STRAGGLER_SECONDS = 0.05
"""After the first SIGTERM, to find what was being started meanwhile or had left the session."""
KILL_TRIES_MAX = 8
"""Looks after SIGKILL, each after twice the time: a process stuck in the kernel cannot be ended by anybody."""
ELSEWHERE_SECONDS = {"container": 5.0, "host": 60.0}
"""Added to the grace where it is kept by somebody else, who must first hear of it: the container engine, or the host, which is
tried three times for 10 seconds."""
POLL_SECONDS = 1.0
"""Between two looks at processes that nobody tells the end of."""
POLLS_PER_SECOND = 1_000
"""Such processes looked at a second, at about a tenth of a millisecond each: of thousands the end is learnt later instead."""
LOOK_SECONDS_MAX = 1.0
"""Between looks at a container that is to end, or that is to be told as soon as there is one."""

# Python ignores SIGPIPE, an engine under nohup SIGHUP: programs must start with what they expect.
_DEFAULT_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGPIPE", "SIGXFSZ", "SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGCHLD", "SIGUSR1", "SIGUSR2")
]
# A shell's own words about a killed child go nowhere: err belongs to the job.
_FILE_ACTIONS = [
    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
    (os.POSIX_SPAWN_DUP2, 0, 1),
    (os.POSIX_SPAWN_DUP2, 0, 2),
]
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9_.:+-]*")
_REFUSED_ERRORS = {errno.E2BIG: "arguments and environment together are too long for a process"}


@dataclass(frozen=True, slots=True)
class Attempt:
    """Which attempt a notice is about."""

    run: RunId
    job: JobName
    attempt: int


@dataclass(slots=True, eq=False)
class _Part:
    """One process of an attempt: all there is, unless the job names several hosts."""

    attempt: Attempt
    token: Token
    guard: str
    """Its directory, absolute."""
    wrapper: int = 0
    """Its process number, which is the number of the session too; 0 when not known."""
    job: int = 0
    """The program we adopted after the wrapper was killed."""
    marked: tuple[int, int] = (0, 0)


@dataclass(slots=True, eq=False)
class _Stop:
    part: _Part
    next_at: datetime
    kill_at: datetime
    asked: set[int] = field(default_factory=set)
    tries: int = 0
    container: Mapping[str, str] | None = None
    """Its name and the program that ends it."""
    told: bool = False
    """The container engine was asked to stop it."""
    looks: int = 0


@dataclass(frozen=True, slots=True)
class _Look:
    """What the evidence and the process table say together."""

    phase: Literal["ended", "wrapper", "job", "gone", "idle"]
    """`gone`: it began and nobody can say how it ended. `idle`: nothing has begun, and nothing is about to."""
    end: evidence.End | None = None
    pid: int = 0
    stale: bool = False
    """With `idle`: a wrapper took the work and died before it began anything, so its claim may be taken back."""


class ProcessExecutor:
    """`Executor` for this machine; what an engine calls beside the protocol is told in the module's header.

    `home`: absolute; attempts lie in `<home>/runs/<run>/<job>/<attempt>/`, kept outputs in `<home>/runs/<run>/_files/<job>/
    <attempt>/<path>`, and addresses in reports are relative to it. `environment`: where secrets (`env:NAME`), PATH, HOME, LANG
    and USER come from. `hosts`: the hosts that `ssm` jobs may name, and their tags; a name that is not in it is refused. None: no
    host list, every name is this machine, and the attempt's log says so. `secret_variables`: secret references (ARNs) to names in
    `environment`. `containers`: what runs the images of `ecs` jobs. `outputs_bytes_max`: of outputs.json.
    """

    takes_token = True
    token_seconds: float | None = None
    runs_at_once = True

    def __init__(
        self,
        home: Path,
        *,
        environment: Mapping[str, str],
        now: Callable[[], datetime],
        hosts: Mapping[str, HostSettings] | None = None,
        secret_variables: Mapping[str, str] | None = None,
        containers: Literal["none", "docker", "podman"] = "none",
        outputs_bytes_max: int = evidence.OUTPUTS_BYTES_MAX,
    ) -> None:
        self._home = str(home.absolute())
        self._runs = f"{self._home}/runs"
        self._now = now
        self._plan = Planner(environment, hosts, secret_variables or {}, containers)
        self._outputs_bytes_max = outputs_bytes_max
        self._me = os.getpid()
        self._session = os.getsid(0)
        self._boot = system.boot_name()
        self._place = f"process:{socket.gethostname()}:{self._boot}:"
        self._live: dict[Attempt, list[_Part]] = {}
        self._children: dict[int, _Part] = {}
        self._watched: dict[int, _Part] = {}
        self._watched_max = system.watched_max()
        self._unwatched: dict[_Part, None] = {}
        self._polled_at = 0.0
        self._ended: list[Attempt] = []
        self._incomplete: set[Attempt] = set()
        self._foreign: set[int] = set()
        self._stops: list[_Stop] = []

    # --- the protocol -------------------------------------------------------------------------------------------------

    def start(self, request: Request) -> Handle:
        """See `Executor`. The handle is `process:<machine>:<boot>:<token's beginning>`: what it names is found by the attempt's
        directory, so it needs no process number, and it is the same however often one asks."""
        attempt = Attempt(request.run, request.job, request.attempt)
        handle = Handle(self._place + request.token[:10])
        if attempt in self._live and attempt not in self._incomplete:
            return handle
        directory = self._directory(attempt)
        try:
            plan = self._plan(request)
        except TargetRefused:
            # It was begun when the settings, or the environment, were others; and what has begun is followed.
            if not self._has_begun(attempt, request.token):
                raise
            for part in self._parts(attempt, request.token):
                self._follow(part)
            return handle
        try:
            is_new = self._prepare(request, plan, directory)
            for host in plan.hosts or ("",):
                guard = f"{directory}/hosts/{host}" if host else directory
                if any(part.guard == guard for part in self._live.get(attempt, ())):
                    continue
                if not is_new and evidence.claim_of(guard) is not None:
                    self._follow(_Part(attempt, request.token, guard))
                else:
                    self._spawn(request, plan, _Part(attempt, request.token, guard), host)
            self._incomplete.discard(attempt)
        except ValueError as error:
            # A NUL, or half a surrogate pair: no process can be given it.
            raise TargetRefused(f"an argument, variable or path cannot be passed to a process: {error}") from error
        except OSError as error:
            if error.errno in (errno.E2BIG, errno.ENAMETOOLONG):
                reason = _REFUSED_ERRORS.get(error.errno or 0, error.strerror)
                raise TargetRefused(f"this machine cannot start it: {reason}") from error
            if attempt in self._live:
                # Some hosts have begun. Asking again starts the others.
                self._incomplete.add(attempt)
                raise TargetSilent(f"this machine cannot start it on every host: {error}") from error
            raise TargetUnavailable(f"this machine cannot start it now: {error}") from error
        return handle

    def observe(self, references: Sequence[Reference]) -> list[Report]:
        """See `Executor`. Declared outputs of what succeeded are kept, which may be done again without harm."""
        self._collect()
        return [self._report(reference) for reference in references]

    def stop(self, reference: Reference, *, grace_seconds: float) -> None:
        """See `Executor`. Sends SIGTERM at once and returns; `tick` does the rest. Work that has not begun never will."""
        attempt = Attempt(reference.run, reference.job, reference.attempt)
        now = self._now()
        try:
            for part in self._parts(attempt, reference.token):
                if evidence.end_of(part.guard) is not None:
                    container = evidence.container_of(part.guard)
                    if container is not None and not evidence.is_answered(part.guard):
                        self._help(containers.stop_words(container["program"], container["name"], grace_seconds))
                    continue
                os.makedirs(part.guard, exist_ok=True)
                # Before any signal: the wrapper looks for it between taking the work and starting it.
                evidence.write_stop(part.guard, grace_seconds)
                self._begin_stop(part, now, now + timedelta(seconds=grace_seconds))
        except OSError as error:
            raise TargetUnavailable(f"the stop cannot be noted: {error}") from error

    # --- what the engine's loop calls -----------------------------------------------------------------------------------

    def attach(self, references: Sequence[Reference]) -> None:
        """Take up, after a restart, the attempts that were started before: what runs is watched, stops are carried on, and
        what has ended is named by the next `reap()`."""
        for reference in references:
            attempt = Attempt(reference.run, reference.job, reference.attempt)
            if attempt in self._live:
                continue
            parts = self._parts(attempt, reference.token)
            for part in parts:
                self._follow(part)
                stop = evidence.stop_of(part.guard)
                if stop is not None and part in self._live.get(attempt, ()):
                    asked_at = datetime.fromtimestamp(stop[0], UTC)
                    self._begin_stop(part, self._now(), asked_at + timedelta(seconds=stop[1]))

    def reap(self) -> list[Attempt]:
        """Attempts that ended since the last call, or whose state must be looked at again; each once. Call it on SIGCHLD.

        Every child of this process in a session of its own is taken to be ours, unless `leave` named it; children in the
        engine's own session are left to whoever started them.
        """
        self._collect()
        ended, self._ended = self._ended, []
        return list(dict.fromkeys(ended))

    def leave(self, pid: int) -> None:
        """Never reap this child: somebody else started it, in a session of its own, and waits for it."""
        self._foreign.add(pid)

    def watch_fds(self) -> Mapping[int, Attempt]:
        """Descriptors to be watched for reading, and whose end each tells."""
        return {descriptor: part.attempt for descriptor, part in self._watched.items()}

    def fd_ready(self, descriptor: int) -> list[Attempt]:
        """The process behind a watched descriptor ended. Answers, and must be treated, like `reap()`."""
        part = self._watched.pop(descriptor, None)
        if part is not None:
            os.close(descriptor)
            self._follow(part)
        return self.reap()

    @property
    def needs_polling(self) -> bool:
        """Whether some attempt's end will not be told by the system."""
        return bool(self._unwatched)

    def running(self) -> list[Attempt]:
        """Attempts whose end has not been learnt yet."""
        return list(self._live)

    def tick(self, now: datetime) -> datetime | None:
        """Send the signals that are due; when to call again, None when no stop is under way."""
        due = [stop for stop in self._stops if stop.next_at <= now]
        if due:
            everything = [one for one in system.processes() if not one.ended and one.pid != self._me]
            markers = {one.pid: system.marker_of(one.pid) for one in everything}
            self._stops = [
                stop for stop in self._stops if stop.next_at > now or self._carry_on(stop, now, everything, markers)
            ]
        return min((stop.next_at for stop in self._stops), default=None)

    def note_output(self, now: datetime) -> None:
        """Mark how long the output of running attempts is, for those that wrote since the last call."""
        for parts in self._live.values():
            for part in parts:
                sizes = (_size(f"{part.guard}/out"), _size(f"{part.guard}/err"))
                if sizes != part.marked:
                    part.marked = sizes
                    # Losing a mark loses a time, never output; the disk may be full.
                    with contextlib.suppress(OSError):
                        logs.write_mark(part.guard, now, *sizes)

    def read_log(
        self,
        run: str,
        job: str,
        attempt: int,
        *,
        stream: logs.Stream | None = None,
        after_cursor: str = "",
        limit_bytes: int = 1 << 16,
    ) -> logs.LogPage:
        """Lines of an attempt's output after the cursor, both streams in the order they came unless `stream` names one.

        `NotFound` for an attempt that was not started here, and for names that are none (fault 57); `InvalidInput` for a
        cursor that is none.
        """
        key = Attempt(RunId(run), JobName(job), attempt)
        directory = self._directory(key)
        if not os.path.isdir(directory):
            raise NotFound(f"attempt {attempt} of {job} in {run} has no output on this machine")
        sources = [
            logs.Source(part.guard, os.path.basename(part.guard) if part.guard != directory else "")
            for part in self._parts(key, Token(""))
        ]
        ended = key not in self._live and all(
            self._look_of(source.directory).phase in ("ended", "gone") for source in sources
        )
        return logs.read_page(sources, stream=stream, after_cursor=after_cursor, limit_bytes=limit_bytes, ended=ended)

    # --- starting -------------------------------------------------------------------------------------------------------

    def _prepare(self, request: Request, plan: Plan, directory: str) -> bool:
        """Directories and small inputs; doing it again before anything began changes nothing. Whether nobody had come so far before."""
        is_new = _made(directory)
        if not is_new and not plan.hosts and evidence.claim_of(directory) is not None:
            return False
        text = request_text(request, plan)
        descriptor = os.open(f"{directory}/request.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
        for host in plan.hosts or ("",):
            guard = f"{directory}/hosts/{host}" if host else directory
            if host:
                if evidence.claim_of(guard) is not None:
                    continue
                os.makedirs(guard, exist_ok=True)
            work = f"{guard}/work"
            with contextlib.suppress(FileExistsError):
                os.mkdir(work)
            if plan.commands is not None:
                evidence.place_input(guard, COMMANDS_FILE, data=plan.commands.encode())
            if plan.note is not None:
                evidence.write_note(guard, plan.note)
            if plan.container is not None:
                evidence.write_container(guard, plan.container.program, containers.name_of(request.token, guard))
                # The image's user is not ours, and the home lets nobody else in.
                os.chmod(work, 0o777)  # noqa: S103
            for one in request.inputs:
                self._place_input(work if host in plan.remotes else plan.directory or work, one)
            if host not in plan.remotes and plan.user is not None and plan.user != self._plan.base["USER"]:
                _let_through(plan.user, work)
                _hand_to(plan.user, work)
        return is_new

    def _place_input(self, work: str, one: Mapping[str, Any]) -> None:
        path = evidence.inside(one["path"])
        if one.get("content") is not None:
            data = str(one["content"]).encode()
            if one.get("sha256"):
                from hashlib import sha256

                if sha256(data).hexdigest() != one["sha256"]:
                    raise TargetRefused(f"input {path}: the SHA-256 of its content is not {one['sha256']}")
            evidence.place_input(work, path, data=data)
        elif _is_small(self._home, one):
            evidence.place_input(work, path, source=f"{self._home}/{one['artifact']}")

    def _spawn(self, request: Request, plan: Plan, part: _Part, host: str) -> None:
        work = f"{part.guard}/work"
        environment = self._plan.environment_of(request, plan, host=host, outputs=_outputs_path(part))
        steps = plan.steps
        directory, user, copy_to = plan.directory, plan.user, plan.copy_to
        if (remote := plan.remotes.get(host)) is not None:
            self._write_remote(request, plan, part, host, remote)
            steps, directory, user, copy_to = (Step((sys.executable, "-I", SSH, part.guard)),), None, None, None
        if plan.container is not None:
            steps = (Step(plan.container.words(request, plan.environment, part.guard)),)
        if any(_must_be_fetched(self._home, one) for one in request.inputs):
            attempt = self._directory(part.attempt)
            fetch = (sys.executable, "-I", FETCH, attempt, directory or work, self._home, part.guard)
            steps = (Step(fetch, action="prepare"), *steps)
        words = wrapper_argv(
            steps,
            part.guard,
            work=directory or work,
            user=user if user != self._plan.base["USER"] else None,
            copy_to=f"{copy_to}/{_log_name(part, host)}" if copy_to else None,
        )
        if plan.commands is not None:
            words = [f"{part.guard}/{COMMANDS_FILE}" if word == COMMANDS_FILE else word for word in words]
        part.wrapper = os.posix_spawn(
            SHELL,
            words,
            environment,
            file_actions=_FILE_ACTIONS,
            setsid=True,
            setsigmask=[],
            setsigdef=_DEFAULT_SIGNALS,
        )
        self._children[part.wrapper] = part
        self._live.setdefault(part.attempt, []).append(part)

    def _has_begun(self, attempt: Attempt, token: Token) -> bool:
        return any(evidence.claim_of(part.guard) is not None for part in self._parts(attempt, token))

    def _help(self, words: list[str]) -> None:
        """Start a program that ends by itself and whose answer nobody needs, beyond the reach of the attempt's own signals."""
        with contextlib.suppress(OSError):
            os.posix_spawn(
                words[0],
                words,
                self._plan.client_environment(),
                file_actions=_FILE_ACTIONS,
                setsid=True,
                setsigmask=[],
                setsigdef=_DEFAULT_SIGNALS,
            )

    def _write_remote(self, request: Request, plan: Plan, part: _Part, host: str, remote: HostSettings) -> None:
        """What `ssh.py` needs to know. Values of variables stay in its environment; here are their names."""
        names = {
            *plan.environment,
            "TZ",
            "RUNFOLD_RUN",
            "RUNFOLD_JOB",
            "RUNFOLD_ATTEMPT",
            "RUNFOLD_WORKFLOW",
            "RUNFOLD_TOKEN",
        }
        facts = {
            "ssh": remote.ssh,
            "port": remote.port,
            "identity": remote.identity,
            "token": request.token,
            "guard_directory": plan.guard_directory,
            "working_directory": plan.directory,
            "run_as": plan.user,
            "copy_to": f"{plan.copy_to}/{_log_name(part, host)}" if plan.copy_to else None,
            "words": plan.steps[0].words,
            "commands": plan.commands,
            "commands_word": COMMANDS_FILE if plan.commands is not None else None,
            "variables": sorted(names | ({"RUNFOLD_HOST"} if host else set())),
            "outputs": [one["path"] for one in request.outputs],
        }
        evidence.place_input(part.guard, "remote.json", data=json.dumps(facts).encode())

    # --- following ------------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Learn of every child that ended, and look at those that nobody tells of."""
        self._poll_if_due()
        for _ in range(REAP_MAX):
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            pid = found.si_pid
            if pid not in self._children and (pid in self._foreign or not self._is_orphan(pid)):
                # Whoever started it has not waited for it yet, and it hides the others from this look.
                self._collect_known()
                return
            orphaned = self._part_of_orphan(pid) if pid not in self._children else None
            status = os.waitpid(pid, 0)[1]
            if orphaned is not None:
                self._record(orphaned, os.waitstatus_to_exitcode(status))
            self._take(pid, status)

    def _poll_if_due(self) -> None:
        every = max(POLL_SECONDS, len(self._unwatched) / POLLS_PER_SECOND)
        if self._unwatched and time.monotonic() - self._polled_at >= every:
            self._polled_at = time.monotonic()
            for part in list(self._unwatched):
                self._follow(part)

    def _collect_known(self) -> None:
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._take(pid, status)

    def _is_orphan(self, pid: int) -> bool:
        """Whether a child came to us because its parent among our jobs ended."""
        found = system.process(pid)
        return found is not None and found.session != self._session

    def _part_of_orphan(self, pid: int) -> _Part | None:
        """Whose program this is, when wrapper and program ended both and the program is seen first."""
        found = system.process(pid)
        part = self._children.get(found.session) if found is not None else None
        began = evidence.began_of(part.guard) if part is not None else None
        return part if began is not None and began.pid == pid else None

    def _take(self, pid: int, status: int) -> None:
        part = self._children.pop(pid, None)
        if part is None:
            return
        if part.job == pid:
            self._record(part, os.waitstatus_to_exitcode(status))
        self._follow(part)

    def _record(self, part: _Part, code: int) -> None:
        """The program of a killed wrapper ended, and only we were told how."""
        if evidence.end_of(part.guard) is not None:
            return
        code = code if code >= 0 else 128 - code
        began = evidence.began_of(part.guard)
        if code == 0 and not self._was_last(part, began):
            evidence.write_problem(
                part.guard, "infrastructure", "its wrapper was killed, and what should have followed was not run"
            )
            code = 70
        evidence.write_end(part.guard, code)

    def _was_last(self, part: _Part, began: evidence.Began | None) -> bool:
        """Whether that step's success is the success of all. An earlier failure that was passed over died with the wrapper."""
        if began is None or began.pid is None:
            return False
        if began.steps == 0:
            return True
        body = evidence.request_of(self._directory(part.attempt)).get("body") or {}
        steps = body.get("steps") or (body.get("cluster") or {}).get("Steps") or ()
        passes_over = any(step.get("ActionOnFailure", "CONTINUE") == "CONTINUE" for step in steps[:-1])
        return began.step == began.steps and not passes_over

    def _follow(self, part: _Part) -> None:
        """See where a process stands and make sure that its end, or its program's, will be told."""
        look = self._look_of(part.guard)
        if look.phase == "wrapper":
            part.wrapper = look.pid
        elif look.phase == "job":
            part.job = look.pid
        parts = self._live.setdefault(part.attempt, [])
        if look.phase in ("wrapper", "job"):
            if part not in parts:
                parts.append(part)
            if look.pid not in self._children:
                self._watch(part, look)
            return
        if look.stale:
            evidence.release(part.guard)
        if part in parts:
            parts.remove(part)
        self._unwatched.pop(part, None)
        if not parts:
            del self._live[part.attempt]
            self._ended.append(part.attempt)

    def _watch(self, part: _Part, look: _Look) -> None:
        found = system.process(look.pid)
        if found is not None and found.parent == self._me:
            self._children[look.pid] = part
            return
        descriptor = system.watch(look.pid) if len(self._watched) < self._watched_max else None
        if descriptor is None:
            self._unwatched[part] = None
            return
        self._unwatched.pop(part, None)
        self._watched[descriptor] = part

    def _look_of(self, guard: str) -> _Look:
        if (end := evidence.end_of(guard)) is not None:
            return _Look("ended", end)
        claim = evidence.claim_of(guard)
        if claim is None:
            return _Look("idle")
        wrapper, at = claim
        if wrapper is not None and (wrapper in self._children or system.is_wrapper_of(wrapper, guard)):
            return _Look("wrapper", pid=wrapper)
        # It may have written the code and ended between the two looks.
        if (end := evidence.end_of(guard)) is not None:
            return _Look("ended", end)
        began = evidence.began_of(guard)
        if began is not None:
            found = system.process(began.pid) if began.pid is not None else None
            alive = found is not None and (not found.ended or found.parent == self._me)
            if found is not None and alive and found.session == wrapper:
                return _Look("job", pid=found.pid)
            return _Look("gone")
        # No program was started, unless the wrapper had split off the process for it when it was killed.
        for found in system.processes():
            if wrapper is not None and found.session == wrapper and found.pid != wrapper:
                return _Look("job", pid=found.pid)
            # A wrapper that is about to write its number into the claim.
            if wrapper is None and system.is_wrapper_of(found.pid, guard):
                return _Look("wrapper", pid=found.pid)
        # What was written before the machine went down may be incomplete, so its silence proves nothing.
        return _Look("gone") if at < system.booted_at() else _Look("idle", stale=True)

    # --- stopping -------------------------------------------------------------------------------------------------------

    def _begin_stop(self, part: _Part, now: datetime, kill_at: datetime) -> None:
        self._stops = [stop for stop in self._stops if stop.part.guard != part.guard]
        look = self._look_of(part.guard)
        container = evidence.container_of(part.guard)
        if container is not None:
            kill_at += timedelta(seconds=ELSEWHERE_SECONDS["container"])
        elif _is_remote(part.guard):
            kill_at += timedelta(seconds=ELSEWHERE_SECONDS["host"])
        stop = _Stop(part, min(now + timedelta(seconds=STRAGGLER_SECONDS), max(now, kill_at)), kill_at)
        stop.container = container
        self._tell_container(stop)
        if look.phase in ("wrapper", "job"):
            # The program that stands for a container passes signals on, and one SIGTERM is enough. While there is no container yet,
            # it ends of it.
            asked = system.descendants(look.pid) if not stop.told else []
            if look.phase == "job":
                asked.append(look.pid)
                part.wrapper = part.wrapper or (evidence.claim_of(part.guard) or (0, 0))[0] or 0
            else:
                part.wrapper = look.pid
            system.send(asked, signal.SIGTERM)
            stop.asked.update(asked)
        self._stops.append(stop)

    def _tell_container(self, stop: _Stop) -> None:
        if stop.container is None or stop.told or not evidence.has_container(stop.part.guard):
            return
        grace = (evidence.stop_of(stop.part.guard) or (0.0, 0.0))[1]
        self._help(containers.stop_words(stop.container["program"], stop.container["name"], grace))
        stop.told = True

    def _carry_on(
        self, stop: _Stop, now: datetime, everything: Sequence[system.Process], markers: Mapping[int, str | None]
    ) -> bool:
        """Whether the stop is still under way."""
        part = stop.part
        pids = {
            one.pid
            for one in everything
            if (part.wrapper and one.session == part.wrapper) or markers[one.pid] == _outputs_path(part)
        } - {part.wrapper}
        if not pids and self._look_of(part.guard).phase != "wrapper":
            return False
        if now < stop.kill_at and stop.container is not None:
            self._tell_container(stop)
            stop.looks += 1
            wait = min(STRAGGLER_SECONDS * 2**stop.looks, LOOK_SECONDS_MAX)
            stop.next_at = min(now + timedelta(seconds=wait), stop.kill_at)
            return True
        if now < stop.kill_at:
            system.send(pids - stop.asked, signal.SIGTERM)
            stop.asked |= pids
            stop.next_at = stop.kill_at
            return True
        if stop.container is not None and stop.tries < KILL_TRIES_MAX - 1:
            # What stands for the container would die without it.
            self._help(containers.kill_words(stop.container["program"], stop.container["name"]))
        else:
            system.send(pids, signal.SIGKILL)
        stop.tries += 1
        if stop.tries >= KILL_TRIES_MAX:
            # The wrapper only waits for its program; the marker says why there is no exit code.
            if part.wrapper and system.is_wrapper_of(part.wrapper, part.guard):
                system.send([part.wrapper], signal.SIGKILL)
            return False
        stop.next_at = now + timedelta(seconds=STRAGGLER_SECONDS * 2**stop.tries)
        return True

    # --- reporting ------------------------------------------------------------------------------------------------------

    def _report(self, reference: Reference) -> Report:
        attempt = Attempt(reference.run, reference.job, reference.attempt)
        parts = self._parts(attempt, reference.token)
        if len(parts) == 1 and parts[0].guard == self._directory(attempt):
            return self._report_of(reference, parts[0].guard, "")
        reports = {os.path.basename(part.guard): None for part in parts}
        each = {host: self._report_of(reference, part.guard, host) for host, part in zip(reports, parts, strict=True)}
        return _combined(reference, each)

    def _report_of(self, reference: Reference, guard: str, host: str) -> Report:
        look = self._look_of(guard)
        stop = evidence.stop_of(guard)
        claim = evidence.claim_of(guard)
        started_at = datetime.fromtimestamp(claim[1], UTC) if claim is not None else None

        def report(status: Any, **more: Any) -> Report:
            return Report(
                token=reference.token,
                run=reference.run,
                job=reference.job,
                attempt=reference.attempt,
                handle=reference.handle,
                status=status,
                started_at=started_at,
                **more,
            )

        if look.end is not None:
            ended_at = datetime.fromtimestamp(look.end.at, UTC)
            code, why = look.end.code, look.end.why
            problem = evidence.problem_of(guard) if code else None
            if problem is not None and problem[0] == "unknown":
                return report("unknown", reason=problem[1])
            if problem is None and not why and (place := _unanswered(guard)):
                return report(
                    "unknown", reason=f"what waited for it here was ended before it did: it may still run {place}"
                )
            if stop is not None and look.end.at >= stop[0]:
                reason = f"stopped as asked; {evidence.describe(code, why)}"
                return report("cancelled", exit_code=code, reason=reason, ended_at=ended_at)
            if problem is not None:
                return report("failed", exit_code=code, failure=problem[0], reason=problem[1], ended_at=ended_at)
            if code:
                # A program may end with 73 as well; only the wrapper says why.
                failure = "infrastructure" if code == 73 and why else "user"
                reason = evidence.describe(code, why)
                return report("failed", exit_code=code, failure=failure, reason=reason, ended_at=ended_at)
            try:
                outputs, files = self._left_behind(reference, guard, host)
            except evidence.Unfit as error:
                return report("failed", exit_code=0, failure="user", reason=str(error), ended_at=ended_at)
            return report("succeeded", exit_code=0, outputs=outputs, files=files, ended_at=ended_at)
        if look.phase in ("wrapper", "job"):
            return report("running")
        if stop is not None and not self._is_starting(reference, guard):
            reason = (
                "stopped before it began" if look.phase == "idle" else "stopped as asked; its exit code is not known"
            )
            return report("cancelled", reason=reason)
        if look.phase == "gone":
            return report("unknown", reason="it ended, and neither its wrapper nor the engine lived to see how")
        if self._is_starting(reference, guard):
            return report("submitted")
        if look.stale:
            evidence.release(guard)
        if reference.handle is not None and not reference.handle.startswith(self._place):
            return report("unknown", reason="the machine was started again, and nothing is left to tell whether it ran")
        return report("missing", reason="it never began")

    def _is_starting(self, reference: Reference, guard: str) -> bool:
        attempt = Attempt(reference.run, reference.job, reference.attempt)
        return any(part.guard == guard and part.wrapper in self._children for part in self._live.get(attempt, ()))

    def _left_behind(self, reference: Reference, guard: str, host: str) -> tuple[Mapping[str, Any], dict[str, str]]:
        outputs = evidence.json_outputs(f"{guard}/work", bytes_max=self._outputs_bytes_max)
        if not reference.outputs:
            return outputs, {}
        body = evidence.request_of(self._directory(Attempt(reference.run, reference.job, reference.attempt))).get(
            "body"
        )
        work = (body or {}).get("working_directory") if (body or {}).get("type") == "ssm" else None
        if _is_remote(guard):
            work = None
        under = f"runs/{reference.run}/_files/{reference.job}/{reference.attempt}" + (f"/{host}" if host else "")
        return outputs, evidence.keep_outputs(work or f"{guard}/work", reference.outputs, home=self._home, under=under)

    # --- places ---------------------------------------------------------------------------------------------------------

    def _directory(self, attempt: Attempt) -> str:
        if (
            attempt.attempt < 1
            or not is_job_name(attempt.job)
            or not _RUN.fullmatch(attempt.run)
            or ".." in attempt.run
        ):
            raise NotFound(f"there is no attempt {attempt.attempt} of {attempt.job!r} in {attempt.run!r}")
        return f"{self._runs}/{attempt.run}/{attempt.job}/{attempt.attempt}"

    def _parts(self, attempt: Attempt, token: Token) -> list[_Part]:
        """One for each process that the attempt has or should have."""
        directory = self._directory(attempt)
        live = {part.guard: part for part in self._live.get(attempt, ())}
        guards = [directory]
        if directory not in live and os.path.isdir(f"{directory}/hosts"):
            names = evidence.request_of(directory).get("hosts") or sorted(os.listdir(f"{directory}/hosts"))
            guards = [f"{directory}/hosts/{name}" for name in names]
        return [live.get(guard) or _Part(attempt, token, guard) for guard in guards]


def wrapper_argv(
    steps: Sequence[Step] | Sequence[str],
    directory: str,
    *,
    work: str | None = None,
    user: str | None = None,
    copy_to: str | None = None,
    shell: str = SHELL,
) -> list[str]:
    """The words that run `steps` (or one program, given as its words) under the wrapper, with `directory` as the guard.

    The same that the executor spawns: what a bare loop must pay to learn exit codes as safely.
    """
    words = [shell, WRAPPER, "-g", directory]
    if work is not None:
        words += ("-d", work)
        if work != directory:
            words += ("-o", f"{directory}/out", "-e", f"{directory}/err")
    if user is not None:
        words += ("-u", user)
    if copy_to is not None:
        words += ("-l", copy_to)
    programs = [step if isinstance(step, Step) else None for step in steps]
    if None in programs:
        return [*words, "--", *(str(word) for word in steps)]
    if len(programs) == 1 and programs[0] is not None and not programs[0].header:
        return [*words, "--", *programs[0].words]
    words += ("-s", str(len(programs)), "--")
    for step in programs:
        assert step is not None
        words += (step.header, step.action, str(len(step.words)), *step.words)
    return words


def _combined(reference: Reference, each: Mapping[str, Report]) -> Report:
    """One report for several hosts: it succeeded iff it succeeded on each; while one runs, it runs."""
    reports = list(each.values())
    statuses = {report.status for report in reports}
    order = ("missing", "submitted", "running", "unknown", "failed", "cancelled", "succeeded")
    # What never began anywhere may begin again; a mixture is begun where it is missing.
    status = next(one for one in order if one in statuses)
    told = {host: report for host, report in each.items() if report.status == status}
    first = next(iter(told.values()))
    started = [report.started_at for report in reports if report.started_at is not None]
    ended = [report.ended_at for report in reports if report.ended_at is not None]
    reasons = [f"host {host}: {report.reason}" for host, report in told.items() if report.reason]
    succeeded = status == "succeeded"
    return Report(
        token=reference.token,
        run=reference.run,
        job=reference.job,
        attempt=reference.attempt,
        status=status,
        handle=reference.handle,
        exit_code=first.exit_code,
        failure=first.failure,
        reason="; ".join(reasons)[:2000],
        started_at=min(started, default=None),
        ended_at=max(ended, default=None) if len(ended) == len(reports) else None,
        outputs={host: report.outputs for host, report in each.items() if report.outputs} if succeeded else {},
        files={f"{host}/{path}": at for host, report in each.items() for path, at in report.files.items()}
        if succeeded
        else {},
    )


def _made(directory: str) -> bool:
    """Whether the attempt's directory was not there. Most often its job's is not there either."""
    for _ in range(2):
        try:
            os.mkdir(directory)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(directory), exist_ok=True)
        except FileExistsError:
            return False
        else:
            return True
    raise FileNotFoundError(errno.ENOENT, "it vanishes as soon as it is made", directory)


def _outputs_path(part: _Part) -> str:
    return f"{part.guard}/work/outputs.json"


def _log_name(part: _Part, host: str) -> str:
    return f"{part.attempt.run}.{part.attempt.job}.{part.attempt.attempt}" + (f".{host}" if host else "")


def _is_remote(guard: str) -> bool:
    """Whether it ran on another host: what it left behind was brought to the local working directory."""
    return _size(f"{guard}/remote.json", missing=-1) >= 0


def _unanswered(guard: str) -> str | None:
    """Where the work may still run, when the local process only stood for it and ended before it."""
    container = evidence.container_of(guard)
    if (container is None and not _is_remote(guard)) or evidence.is_answered(guard):
        return None
    began = evidence.began_of(guard)
    if began is None or began.steps not in (0, began.step):
        return None
    return f"in the container {container['name']}" if container is not None else "on its host"


def _must_be_fetched(home: str, one: Mapping[str, Any]) -> bool:
    return bool(one.get("url") or one.get("s3") or (one.get("artifact") and not _is_small(home, one)))


def _is_small(home: str, one: Mapping[str, Any]) -> bool:
    """An artifact that can be copied while the engine waits."""
    if not one.get("artifact") or one.get("sha256"):
        return False
    return 0 <= _size(f"{home}/{one['artifact']}", missing=-1) <= evidence.SMALL_BYTES_MAX


def _size(path: str, *, missing: int = 0) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return missing


def _let_through(user: str, work: str) -> None:
    """`TargetRefused` unless others may pass through every directory above the job's own: a home is private at first."""
    directory = os.path.dirname(work)
    while True:
        if not os.stat(directory).st_mode & 0o001:
            raise TargetRefused(
                f"run_as: {user} may not pass through {directory} to the job's directory: `chmod o+x {directory}` lets "
                "other users through, though not look around, and is yours to decide"
            )
        if directory == "/":
            return
        directory = os.path.dirname(directory)


def _hand_to(user: str, work: str) -> None:
    """Let the user that the job becomes write in its directory."""
    import pwd
    import shutil

    if os.geteuid() != 0:
        os.chmod(work, 0o777)  # noqa: S103
        return
    try:
        number = pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise TargetRefused(f"run_as: this machine has no user {user!r}") from error
    for directory, _, files in os.walk(work):
        shutil.chown(directory, number)
        for file in files:
            shutil.chown(f"{directory}/{file}", number)
