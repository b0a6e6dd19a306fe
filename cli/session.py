"""What every command shares: where the engine is, who asks, how to answer; and the options that set it.

Nothing heavy is imported here: `runfold --help` and completion read this file at every press of a key.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shared.errors import InvalidInput, NotFound, Problem

if TYPE_CHECKING:
    from cli.reach import Reach
    from cli.terminal import Terminal
    from cli.writing import Writing
    from local.home import Home
    from shared.bootstrap import LocalParts

HOME_DEFAULT = ".runfold"
BY_LENGTH_MAX = 128


class Session:
    """One call of the command."""

    def __init__(self) -> None:
        self.home_given: str | None = None
        self.api_given: str | None = None
        self.token_file: str | None = None
        self.json = False
        self.no_color = False
        self.by_given: str | None = None
        self._terminal: Terminal | None = None

    @property
    def home_path(self) -> Path:
        return Path(self.home_given or os.environ.get("RUNFOLD_HOME") or HOME_DEFAULT)

    @property
    def api(self) -> str | None:
        """The address of the API that is asked; None when a home is. What is typed goes before what the environment says."""
        if self.api_given is not None and self.home_given is not None:
            raise click.UsageError("--home and --api name two engines; give one")
        if self.home_given is not None:
            return None
        return self.api_given or os.environ.get("RUNFOLD_API") or None

    @property
    def home(self) -> "Home":
        from local.home import Home

        if self.api is not None:
            context = click.get_current_context(silent=True)
            command = f"`runfold {context.info_name}`" if context is not None else "this"
            raise click.UsageError(
                f"{command} works on the files of a home: leave out --api (or RUNFOLD_API), or name the home with --home"
            )
        return Home(self.home_path)

    @property
    def by(self) -> str:
        """Who asks: it is recorded with everything that is asked for."""
        name = self.by_given or os.environ.get("RUNFOLD_USER") or _login_name()
        if len(name) > BY_LENGTH_MAX or not name.isprintable():
            raise InvalidInput(
                [Problem("--by", f"is not a name of at most {BY_LENGTH_MAX} printable characters", "say who asks")]
            )
        return name

    @property
    def terminal(self) -> "Terminal":
        """What people read, on standard output."""
        if self._terminal is None:
            import sys

            from cli.terminal import Terminal

            self._terminal = Terminal(sys.stdout, no_color=self.no_color)
        return self._terminal

    @contextmanager
    def reach(self) -> Iterator["Reach"]:
        """The engine that is asked, at home or behind an API."""
        url = self.api
        if url is None:
            from cli.at_home import AtHome

            with AtHome(self) as home:
                yield home
            return
        from cli.remote import Remote, token_in

        if self.by_given is not None:
            raise click.UsageError("--by goes with a home: an API knows by your token who you are")
        with Remote(url, token_in(self.token_file, os.environ)) as remote:
            yield remote

    @contextmanager
    def reading(self) -> Iterator["LocalParts"]:
        """The home's files, to be only read; works while an engine writes."""
        from cli.writing import no_effects
        from shared.bootstrap import local_parts

        home = self.home
        if not home.exists():
            raise NotFound(
                f"there is nothing at {home.path}: `runfold register FILE` or `runfold up` begins a home there; "
                "--home or RUNFOLD_HOME name another"
            )
        parts = local_parts(home.database, home.documents, no_effects, read_only=True)
        try:
            yield parts
        finally:
            parts.close()

    @contextmanager
    def writing(self, *, make: bool = False) -> Iterator["Writing"]:
        """The home's files, for one change. Views are right when it ends, and the engine, if there is one, is awake.

        `make`: a home that is not there is made; otherwise that is refused.
        """
        from cli.writing import Writing

        home = self.home
        if not make and not home.exists():
            with self.reading():
                raise AssertionError("a home that is not there was opened")
        with Writing(home) as writing:
            yield writing
            writing.finish()

    def answer(self, value: Any) -> None:
        """Print a JSON value."""
        import json

        click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _login_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def pass_session(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command its session as the first argument."""
    passing: Callable[..., None] = click.make_pass_decorator(Session, ensure=True)(function)
    return passing


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    # The same option may stand before and after the command's name; the later one counts, an absent one says nothing.
    if value is None or value is False:
        return
    session = ctx.ensure_object(Session)
    match param.name:
        case "home":
            session.home_given = value
        case "api":
            session.api_given = value
        case "token_file":
            session.token_file = value
        case "json":
            session.json = True
        case "no_color":
            session.no_color = True
        case "by":
            session.by_given = value


def shared_options() -> list[click.Option]:
    """The options that every command takes, before its name or after it."""
    settings: dict[str, Any] = {"expose_value": False, "is_eager": True, "callback": _keep}
    return [
        click.Option(
            ["--home"],
            metavar="DIR",
            help="Where everything is kept: RUNFOLD_HOME, or .runfold.",
            type=click.Path(path_type=str),
            **settings,
        ),
        click.Option(
            ["--api"],
            metavar="URL",
            help="Ask the engine behind this HTTP API instead: RUNFOLD_API.",
            **settings,
        ),
        click.Option(
            ["--token-file"],
            metavar="FILE",
            help="Holds the token that the API asks for: RUNFOLD_TOKEN.",
            **settings,
        ),
        click.Option(["--json"], is_flag=True, help="Answer in JSON; errors too, on standard error.", **settings),
        click.Option(["--no-color"], is_flag=True, help="No colours; NO_COLOR does the same.", **settings),
        click.Option(["--by"], metavar="NAME", help="Who asks: RUNFOLD_USER, or your login name.", **settings),
    ]


class Command(click.Command):
    """A command whose help keeps the options of its own apart from those that every command has."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._own = list(self.params)
        self._shared = shared_options()
        self.params = [*self._own, *self._shared]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, params in (("Options", [*self._own, self.get_help_option(ctx)]), ("Everywhere", self._shared)):
            records = [record for one in params if one is not None and (record := one.get_help_record(ctx)) is not None]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def command(name: str | None = None, **settings: Any) -> Callable[[Callable[..., None]], Command]:
    """Like `click.command`, with the shared options; the help is the function's docstring."""
    settings.setdefault("context_settings", {"help_option_names": ["-h", "--help"], "max_content_width": 100})
    return click.command(name, cls=Command, **settings)
