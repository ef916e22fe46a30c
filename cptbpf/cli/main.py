"""The group of all subcommands, and what becomes of everything that they may raise."""

import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from types import FrameType
from typing import Any

import click

from cptbpf import __version__
from cptbpf.cli.output import telling_where
from cptbpf.cli.text import escape
from cptbpf.errors import CptbpfError, TargetError

#: In the order of the help. Each is a module of this package with a ``command``.
COMMANDS = (
    "check",
    "list",
    "snapshot",
    "show",
    "decode",
    "encode",
    "diff",
    "crosscheck",
    "sample",
    "top",
    "replay",
    "export",
    "fields",
)

_TROUBLE, _NO_PRIVILEGE = 2, 3  # exit statuses: of what no error class tells, and of a permission
_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_EXAMPLES = """\b
Examples:
  cptbpf check                                 can it work here?
  cptbpf list                                  which pid namespaces are there?
  cptbpf snapshot --pidns 4711 -o web.cpt      all tasks of the namespace that process 4711 is in
  cptbpf show web.cpt                          who they are and what they are stuck in
  cptbpf show web.cpt --task 17                all that is known of one task
  cptbpf decode web.cpt | jq '.tasks[].task.comm'

Exit status: 0 fine, 1 a finding (such as a partial image), 2 usage or a bad target, 3 lacking privilege or kernel support,
4 an unreadable or damaged image, 128+N ended by signal N."""


class Interrupted(KeyboardInterrupt):
    """A signal asks to end: raised in the main thread, so that everything is cleaned up on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Commands(click.Group):
    """Subcommands that are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One of them, None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"cptbpf.cli.{cmd_name}").command
        command.name = cmd_name  # click would call it after its function
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a guess at what was meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], COMMANDS, 1)
            guess = f": did you mean '{near[0]}'?" if near else f". There are: {', '.join(COMMANDS)}."
            raise click.UsageError(f"there is no command '{args[0]}'{guess}", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog=_EXAMPLES,
    no_args_is_help=False,
    invoke_without_command=True,
)
@click.version_option(__version__, message="cptbpf %(version)s")
@click.option("--debug", is_flag=True, help="Show tracebacks of errors, as CPTBPF_DEBUG=1 does.")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """The exact kernel-level state of every task of a pid namespace, as one file.

    It reads the kernel's own structs through BPF, stops tasks for milliseconds (or not at all), and says for every value where
    it came from. What looks at live tasks needs root; the files that it makes can be read by anybody, anywhere.
    """
    ctx.obj = debug or os.environ.get("CPTBPF_DEBUG", "0") not in ("", "0")
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(arguments: Sequence[str]) -> int:
    """Runs one command line; returns the exit status. Nothing that goes wrong leaves a traceback, unless one is asked for."""
    debug = "--debug" in arguments[:1] or os.environ.get("CPTBPF_DEBUG", "0") not in ("", "0")

    def action() -> int:
        for number in _HANDLED:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1), and what runs in the background of a shell
                signal.signal(number, _interrupt)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # of a terminal that is not UTF-8
        return _invoke(arguments)

    try:
        return _explained(action, debug)
    finally:
        for number in _HANDLED:
            if signal.getsignal(number) in (_interrupt, _impatient):
                signal.signal(number, signal.SIG_DFL)


def _invoke(arguments: Sequence[str]) -> int:
    """Not by click's main(), which turns every KeyboardInterrupt into its own words and status."""
    try:
        with cli.make_context("cptbpf", list(arguments)) as ctx:
            status = cli.invoke(ctx)
    except click.exceptions.Exit as end:
        status = end.exit_code
    _flush()
    return status or 0


def _flush() -> None:
    """What a command printed; a full disk may show only now. Raises TargetError, BrokenPipeError."""
    if sys.stdout is not None:
        with telling_where():
            sys.stdout.flush()


def _interrupt(number: int, frame: FrameType | None) -> None:
    for other in _HANDLED:
        if signal.getsignal(other) is _interrupt:
            signal.signal(other, _impatient)
    raise Interrupted(number)


def _impatient(number: int, frame: FrameType | None) -> None:
    """What asks to end once more: everything is being cleaned up already, and would be left half done."""


def _explained(action: Callable[[], int], debug: bool) -> int:
    """The status of an action; what it raises, in one or two lines on standard error."""
    try:
        return action()
    except click.ClickException as error:
        return _usage(error)
    except CptbpfError as error:
        return _failed(debug, error.exit_code, str(error), error.remedy)
    except KeyboardInterrupt as error:
        number = getattr(error, "number", int(signal.SIGINT))
        _discard_output()
        return _failed(False, 128 + number, "interrupted" if number == signal.SIGINT else "terminated")
    except BrokenPipeError:  # the reader has seen enough
        _discard_output()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _discard_output()
        where = f"{error.filename}: " if isinstance(error.filename, str) else ""
        status = _NO_PRIVILEGE if isinstance(error, PermissionError) else _TROUBLE
        return _failed(debug, status, f"{where}{error.strerror or error}")
    except MemoryError:
        return _failed(debug, _TROUBLE, "out of memory")
    except Exception as error:
        what = f"internal error: {type(error).__name__}: {error}"
        return _failed(debug, _TROUBLE, what, "please report it, with what 'cptbpf --debug …' prints")


def _usage(error: click.ClickException) -> int:
    ctx: Any = getattr(error, "ctx", None)
    message = " ".join(error.format_message().rstrip(".").split())
    return _failed(False, _TROUBLE, message[:1].lower() + message[1:], f"see '{ctx.command_path if ctx else 'cptbpf'} --help'")


def _failed(debug: bool, status: int, message: str, remedy: str = "") -> int:
    try:
        _flush()  # what was printed before stands before the message
    except (OSError, TargetError):
        _discard_output()
    if debug:
        import traceback

        traceback.print_exc()
    lines = f"cptbpf: {escape(message, quote=False)}\n" + (f"{escape(remedy, quote=False)}\n" if remedy else "")
    if sys.stderr is not None:
        try:
            sys.stderr.write(lines)
            sys.stderr.flush()
        except OSError:
            pass  # nobody listens
    return status


def _discard_output() -> None:
    """What is still in the buffer must not fail once more when the interpreter ends."""
    if sys.stdout is not None:
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, sys.stdout.fileno())
            os.close(null)
        except (OSError, ValueError):
            pass
