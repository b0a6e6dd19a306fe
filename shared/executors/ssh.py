"""Runs one job on a host reached over SSH, with the wrapper that a managed host gets: the local process that stands for it.

Run as a program (`python -I ssh.py GUARD`) under the local wrapper; GUARD holds `remote.json` (where, and which words; no
secrets) and `work/` with the inputs. Values of variables are taken from this process's environment and reach the host through
the connection's input alone, so that no command line or file on either side shows them.

* The job is started apart from the connection, at most once: its guard on the host is named after the attempt's token, so
  delivering again after a broken connection finds the first delivery's work, running or ended.
* A host that was never reached fails the attempt as `infrastructure`. Once the work may have been delivered (GUARD/sent), a
  connection that cannot be had proves nothing: it is tried again until there is an answer or somebody stops the attempt.
* SIGTERM is passed on; after the grace that the local stop marker names, the job is killed on the host.
* The looking on is done by a child, which is started again when it is killed. GUARD/answered is there when the exit code is the
  host's answer; without it nobody knows whether the job lives.
* Only a host whose key is known is talked to, whatever the user's own configuration says.
* What comes from the host comes in frames on one stream: what its start files print is passed over, and what ssh itself has to say
  (in GUARD/ssh.log) never mixes with the job's output, whose length tells what has been passed on.

It imports nothing of ours, so that it starts quickly.
"""

import contextlib
import io
import json
import os
import shlex
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, NoReturn

TRIES_MAX = 5
"""Connections tried before a host that never answered counts as not reachable."""
PAUSE_SECONDS_MAX = 60.0
OUTPUT_BYTES_MAX = 1 << 30
"""Of one declared output that is brought back."""
STOP_TRIES_MAX = 3
"""Connections tried to pass on a stop, a second apart; the grace is running."""
UNREACHABLE = 255
"""What ssh itself ends with when there is no connection, or no longer."""
CHILDREN_MAX = 100
"""Times that the looking on is started again."""
NOISE_LINES_MAX = 1_000
"""Lines that a host's own start files may print before ours."""
CHUNK_BYTES = 1 << 16
_READY = b"runfold ready\n"
_WRAPPER = Path(__file__).parent / "wrapper.sh"


class Remote:
    """One host and one attempt's guard on it."""

    def __init__(self, guard: Path, pause: Callable[[float], None] = time.sleep) -> None:
        self._pause = pause
        self._answers = 0
        """Connections on which the host's shell has answered."""
        self.guard = guard
        self.facts: dict[str, Any] = json.loads((guard / "remote.json").read_text())
        directory = self.facts.get("guard_directory")
        parent = shlex.quote(directory) if directory else '"${XDG_STATE_HOME:-$HOME/.local/state}"/runfold'
        self.place = f"rf_g={parent}/{shlex.quote(self.facts['token'])}\n"
        # Everything that is added to them from here on comes from the host.
        self._began_at = [os.lseek(stream, 0, os.SEEK_END) if _is_file(stream) else 0 for stream in (1, 2)]

    @property
    def sent(self) -> bool:
        """Whether the host may have been given the work."""
        return (self.guard / "sent").exists()

    def deliver(self) -> None:
        exports = "".join(
            f"export {name}={shlex.quote(os.environ[name])}\n" for name in self.facts["variables"] if name in os.environ
        )
        words = " ".join(
            '"$rf_g/commands.sh"' if word == self.facts.get("commands_word") else shlex.quote(word)
            for word in self.facts["words"]
        )
        options = ""
        for option, key in (("-u", "run_as"), ("-l", "copy_to")):
            if self.facts.get(key):
                options += f" {option} {shlex.quote(self.facts[key])}"
        directory = self.facts.get("working_directory")
        self._send_inputs()
        text = (
            '(\nmkdir -p "$rf_g/work" || exit 73\n'
            + _written('"$rf_g/wrapper.sh"', _WRAPPER.read_text())
            + (_written('"$rf_g/commands.sh"', self.facts["commands"]) if self.facts.get("commands") else "")
            + exports
            + 'export RUNFOLD_OUTPUTS="$rf_g/work/outputs.json"\n'
            # A session of its own, so that neither the end of the connection nor our own looking on is in its group.
            + "rf_s=; command -v setsid >/dev/null && rf_s=setsid\n"
            + f'$rf_s sh "$rf_g/wrapper.sh" -g "$rf_g" -d {shlex.quote(directory) if directory else chr(34) + "$rf_g/work" + chr(34)}'
            + ' -o "$rf_g/out" -e "$rf_g/err"'
            + f'{options} -- {words} </dev/null >/dev/null 2>&1 &\nexit 0\n)\necho "end $?"\n'
        )
        code = self._insist(lambda: self._talk(text, _end, ready=(self.guard / "sent").touch))
        if code != "0":
            # The shell there gave up before it came to the wrapper.
            self.fail(f"{self.facts['ssh']}: nothing can be written in the guard directory{self._complaint()}")

    def _send_inputs(self) -> None:
        data = self._inputs()
        if not data:
            return

        def send() -> str | None:
            # With data on its input, the text must come on the command line; it holds no values.
            text = f'{self.place}mkdir -p "$rf_g/work" && cd "$rf_g/work" && tar -xf -'
            with self._log() as log:
                words = self._words(f"sh -c {shlex.quote(text)}")
                code = subprocess.run(
                    words, input=data, stdout=log, stderr=log, env=_environment(), check=False
                ).returncode
            # An ssh that was itself killed brought no answer either.
            return None if code < 0 or code == UNREACHABLE else str(code)

        if self._insist(send) != "0":
            self.fail(f"{self.facts['ssh']}: the inputs cannot be written there{self._complaint()}")

    def _talk(
        self,
        text: str,
        listen: Callable[[IO[bytes]], str | None],
        *,
        ready: Callable[[], object] | None = None,
        apart: bool = False,
    ) -> str | None:
        """Let the host's sh run `text` and `listen` to what it says; None when the connection broke before there was an answer.

        The text leaves only after the shell has said that it is there, and after `ready` was called: a connection that fails before
        that surely delivered nothing, and one that fails later may have delivered everything. `apart`: beyond the reach of a stop of
        this attempt.
        """
        pipe = subprocess.PIPE
        with (
            self._log() as log,
            subprocess.Popen(
                self._words("sh -s"),
                stdin=pipe,
                stdout=pipe,
                stderr=log,
                env=_environment(apart=apart),
                start_new_session=apart,
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(b"echo; echo " + _READY)
                process.stdin.flush()
                lines = (process.stdout.readline() for _ in range(NOISE_LINES_MAX))
                if not any(line == _READY for line in lines):
                    return None
                if ready is not None:
                    ready()
                process.stdin.write((self.place + text).encode(errors="surrogateescape"))
                process.stdin.close()
                self._answers += 1
                return listen(process.stdout)
            except BrokenPipeError:
                return None
            finally:
                # Closing a pipe writes what is left in it.
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
                process.stdout.close()

    def _insist(self, work: Callable[[], str | None]) -> str:
        """Again and again while there is no connection."""
        tries = 0
        while True:
            answers = self._answers
            answer = work()
            if answer is not None:
                return answer
            # A connection that was there and broke is another beginning.
            tries = 1 if self._answers > answers else tries + 1
            if tries >= TRIES_MAX and not self.sent:
                self.fail(f"{self.facts['ssh']} cannot be reached over SSH{self._complaint()}")
            self._pause(min(PAUSE_SECONDS_MAX, 2.0 ** min(tries - 1, 10)))

    def _words(self, command: str) -> list[str]:
        words = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "StrictHostKeyChecking=yes"]
        words += ["-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15", "-p", str(self.facts["port"])]
        if self.facts.get("identity"):
            words += ["-i", self.facts["identity"]]
        return [*words, "--", self.facts["ssh"], command]

    def _log(self) -> IO[bytes]:
        return (self.guard / "ssh.log").open("ab")

    def _complaint(self) -> str:
        """The last thing ssh said, for people."""
        with contextlib.suppress(OSError):
            lines = (self.guard / "ssh.log").read_text(errors="replace")[-4096:].split("\n")
            said = [line.strip() for line in lines if line.strip()]
            return f": {said[-1][:300]}" if said else ""
        return ""

    def follow(self, *, apart: bool = False) -> str:
        """Pass on the output as it comes; the text of the exit file when the work has ended."""
        return self._insist(lambda: self._talk(self._looking_on(), self._pass_on, apart=apart))

    def _looking_on(self) -> str:
        """Shell text that sends the output from where our own files of it end: `out COUNT` or `err COUNT`, the bytes, and at last
        `end` with the text of the exit file."""
        ends = [os.lseek(stream, 0, os.SEEK_END) for stream in (1, 2)]
        out, err = (end - start for end, start in zip(ends, self._began_at, strict=True))
        # The last look at the output comes after the exit code was seen, so nothing is left behind.
        return f"""rf_o={out} rf_e={err} rf_i=0
while :; do
    rf_end=''
    {{ read -r rf_c <"$rf_g/exit"; }} 2>/dev/null && rf_end=yes
    rf_n=$(wc -c <"$rf_g/out" 2>/dev/null || echo 0) && rf_n=$((rf_n))
    [ "$rf_n" -le "$rf_o" ] || {{ echo "out $((rf_n - rf_o))"; tail -c +$((rf_o + 1)) "$rf_g/out" | head -c $((rf_n - rf_o)); rf_o=$rf_n; }}
    rf_n=$(wc -c <"$rf_g/err" 2>/dev/null || echo 0) && rf_n=$((rf_n))
    [ "$rf_n" -le "$rf_e" ] || {{ echo "err $((rf_n - rf_e))"; tail -c +$((rf_e + 1)) "$rf_g/err" | head -c $((rf_n - rf_e)); rf_e=$rf_n; }}
    [ -z "$rf_end" ] || {{ echo "end $rf_c"; exit 0; }}
    read -r rf_p <"$rf_g/pid" 2>/dev/null && ! kill -0 "$rf_p" 2>/dev/null && [ ! -e "$rf_g/exit" ] && {{ echo "end vanished"; exit 0; }}
    # Fractions are not known to every sleep.
    [ $((rf_i += 1)) -lt 10 ] && sleep 0.1 2>/dev/null || sleep 1
done
"""

    def _pass_on(self, stream: IO[bytes]) -> str | None:
        while True:
            kind, _, rest = stream.readline().decode(errors="replace").rstrip("\n").partition(" ")
            if kind == "end":
                return rest
            if kind not in ("out", "err") or not rest.isdigit():
                return None
            # Unbuffered: what has come is passed on, also when the connection breaks in the middle of it.
            if not _copied(stream, int(rest), partial(_write, 1 if kind == "out" else 2)):
                return None

    def bring_back(self) -> None:
        """outputs.json and the declared outputs, into the local working directory; what is missing is left missing."""
        base = self.facts.get("working_directory")
        places = [('"$rf_g/work/outputs.json"', "outputs.json")]
        for path in self.facts["outputs"]:
            places.append(
                (f"{shlex.quote(base) if base else chr(34) + '$rf_g/work' + chr(34)}/{shlex.quote(path)}", path)
            )
        for source, path in places:
            target = self.guard / "work" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            unfinished = target.with_name(f".{target.name}.partial")
            text = (
                f"if [ -f {source} ] && rf_n=$(wc -c <{source}) && [ $((rf_n)) -le {OUTPUT_BYTES_MAX} ]\n"
                f'then echo "file $((rf_n))" && cat {source}\nelse echo "end none"\nfi\n'
            )
            brought = self._insist(partial(self._talk, text, _into(unfinished)))
            if brought == "whole":
                unfinished.rename(target)
            else:
                unfinished.unlink(missing_ok=True)

    def pass_on_stop(self) -> None:
        """Ask the job on the host to end, and have it killed after the grace by a process there."""
        # Whether that was heard decides between `cancelled` and `unknown`.
        try:
            grace = float((self.guard / "stop").read_text())
        except (OSError, ValueError):
            grace = 0.0
        text = f"""(
: >"$rf_g/stop"
read -r rf_p <"$rf_g/pid" || exit 0
# Without setsid there was no group of its own to be in.
rf_k="-$rf_p" && kill -0 "$rf_k" || read -r rf_j rf_k <"$rf_g/job" || exit 0
kill -TERM "$rf_k"
rf_i=0
while [ "$rf_i" -lt {int(grace) + 1} ] && [ ! -s "$rf_g/exit" ]; do sleep 1; rf_i=$((rf_i + 1)); done
[ -s "$rf_g/exit" ] && exit 0
kill -KILL "$rf_k" && sleep 1 && [ ! -s "$rf_g/exit" ] && echo "137 killed after the grace" >"$rf_g/exit"
) </dev/null >/dev/null 2>&1 &
echo end 0
"""
        for _ in range(STOP_TRIES_MAX):
            if self._talk(text, _end, apart=True) is not None:
                return
            self._pause(1.0)
        self.fail(f"{self.facts['ssh']} cannot be reached over SSH: the job there may still run", failure="unknown")

    def answered(self) -> None:
        """What follows is the work's own exit code."""
        (self.guard / "answered").touch()

    def fail(self, reason: str, failure: str = "infrastructure") -> NoReturn:
        """End, and leave word why. `unknown` when the job may have run, or may run still: it must not be tried again."""
        partial = self.guard / "problem.json.partial"
        partial.write_text(json.dumps({"failure": failure, "reason": reason}))
        partial.rename(self.guard / "problem.json")
        sys.exit(1)

    def _inputs(self) -> bytes:
        work = self.guard / "work"
        if not any(work.iterdir()):
            return b""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(work, arcname=".")
        return buffer.getvalue()


def _written(place: str, text: str) -> str:
    """Shell text that writes `text` to a file. The file appears whole; an earlier delivery may be reading it."""
    return f"printf %s {shlex.quote(text)} >{place}.$$ && mv {place}.$$ {place} || exit 73\n"


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _environment(*, apart: bool = False) -> dict[str, str]:
    """For ssh. Without the mark by which a stop finds an attempt's processes, when it is `apart`."""
    return {name: value for name, value in os.environ.items() if not apart or name != "RUNFOLD_OUTPUTS"}


def _end(stream: IO[bytes]) -> str | None:
    """What stands behind `end`; None when it never came."""
    kind, _, rest = stream.readline().decode(errors="replace").rstrip("\n").partition(" ")
    return rest if kind == "end" else None


def _into(file: Path) -> Callable[[IO[bytes]], str | None]:
    """Listens for one file and writes it: `whole`, `none` when there is none, None when the connection broke."""

    def listen(stream: IO[bytes]) -> str | None:
        kind, _, rest = stream.readline().decode(errors="replace").rstrip("\n").partition(" ")
        if kind == "end":
            return rest
        if kind != "file" or not rest.isdigit():
            return None
        with file.open("wb") as opened:
            return "whole" if _copied(stream, int(rest), opened.write) else None

    return listen


def _copied(stream: IO[bytes], count: int, write: Callable[[bytes], object]) -> bool:
    """Whether so many bytes came; each is written when it comes."""
    while count > 0:
        data = stream.read1(min(count, CHUNK_BYTES)) if isinstance(stream, io.BufferedReader) else stream.read(count)
        if not data:
            return False
        write(data)
        count -= len(data)
    return True


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def carry(remote: Remote) -> int:
    """Deliver, look on, bring back; the job's exit code."""

    def stop(_number: int = 0, _frame: object = None) -> NoReturn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if not remote.sent:
            remote.answered()
            sys.exit(128 + signal.SIGTERM)
        remote.pass_on_stop()
        code = remote.follow(apart=True).partition(" ")[0]
        remote.answered()
        sys.exit(int(code) if code.isdigit() else 128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    if (remote.guard / "stop").exists():
        stop()
    remote.deliver()
    code, _, why = remote.follow().partition(" ")
    if not code.isdigit():
        remote.fail(f"{remote.facts['ssh']}: the job vanished there, and no exit code is left", failure="unknown")
    if code == "0":
        remote.bring_back()
    if why:
        sys.stderr.write(f"runfold: {why}\n")
    remote.answered()
    return int(code)


def main(words: list[str]) -> int:
    remote = Remote(Path(words[0]))
    # The child is told to stop by the same signal, or finds the marker.
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    status = 0
    for _ in range(CHILDREN_MAX):
        child = os.fork()
        if child == 0:
            return carry(remote)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            return os.WEXITSTATUS(status)
        time.sleep(0.1)
    return 128 + os.WTERMSIG(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
