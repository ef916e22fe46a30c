"""Arguments and options that several subcommands share, each written once."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, BinaryIO

import click

from cptbpf.errors import TargetError

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

image = click.argument("file", metavar="FILE")
force = click.option("-f", "--force", is_flag=True, help="Replace a file that exists.")
json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
output = click.option("-o", "--output", metavar="FILE", default="-", help="Write to FILE. Default: standard output.")

_image_or_none = click.argument("file", metavar="[FILE]", required=False)
_pidns = click.option(
    "--pidns", metavar="NS", help="A pid namespace: pid:[INODE], a path, an inode number, or the pid of a process in it."
)
_pid = click.option("--pid", metavar="PID", type=int, help="A process, and the process tree below it.")


def _target(wanted: str, **parameters: _Decorator) -> _Decorator:
    """Adds parameters, of which exactly one names the target; who gives none or more is told what is ``wanted``."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for parameter in reversed(parameters.values()):  # click lists them from the last to the first
            command = parameter(command)

        @wraps(command)
        def checked(**values: Any) -> Any:
            if sum(values[name] is not None for name in parameters) != 1:
                raise click.UsageError(f"name one target: {wanted}", click.get_current_context())
            return command(**values)

        return checked

    return decorate


#: A live target, as ``pidns`` or ``pid``.
target = _target("either --pidns NS or --pid PID", pidns=_pidns, pid=_pid)
#: The same, or an image as ``file``.
target_or_image = _target("--pidns NS, --pid PID, or an image FILE", file=_image_or_none, pidns=_pidns, pid=_pid)


def source(file: str) -> str | BinaryIO:
    """What an image is read from: a path, or standard input for ``-``."""
    if file != "-":
        return file
    stream = binary_stdin()
    if stream.isatty():
        raise TargetError("standard input is a terminal, not an image", "redirect it, or name a file")
    return stream


def binary_stdin() -> BinaryIO:
    """Standard input for bytes. Raises TargetError where it is closed."""
    if sys.stdin is None:
        raise TargetError("standard input is closed", "redirect it, or name a file")
    return sys.stdin.buffer
