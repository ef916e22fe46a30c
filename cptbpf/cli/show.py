"""``cptbpf show``: an image for people."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from cptbpf.cli import options
from cptbpf.cli.output import emit, emit_text, terminal_width
from cptbpf.errors import TargetError

if TYPE_CHECKING:
    from cptbpf.image.model import Image, TaskImage

_NARROW = 110  # columns of a terminal, below which the tree leaves some of its own out

_EPILOG = """\b
Examples:
  cptbpf show web.cpt                                    the process tree
  cptbpf show web.cpt --format table | sort -k10 -n      one line per task
  cptbpf show web.cpt --task 17                          all that is known of one task, registers included
  cptbpf show web.cpt --fields pid,comm,utime,rip        these columns
  cptbpf show recording.cpt --at -1m                     who was there a minute before the recording ends
  cptbpf show web.cpt --format json | jq '.tasks[].task.comm'

Names of users are given only for an image of this very machine since it was booted: elsewhere a uid may be somebody else's."""


@click.command(epilog=_EPILOG)
@options.image
@click.option(
    "--format", "form", type=click.Choice(["tree", "table", "json"]), help="How to show it. Default: tree; table with --fields."
)
@click.option("--task", "pid", metavar="PID", type=int, help="All that is known of one task, by its pid inside the namespace.")
@click.option("--fields", metavar="A,B", help="Only these fields, named as 'cptbpf fields' lists them, and registers.")
@click.option(
    "--at", metavar="TIME", help="Of a recording: the tasks at 3s from its start, -1m from its end, or a date and time."
)
def command(file: str, form: str | None, pid: int | None, fields: str | None, at: str | None) -> int:
    """Show the image FILE: who was there, since when, and what they were stuck in; or an instant of a recording.

    It needs no privilege and no BPF; FILE may be - for standard input. A ! marks what is unusual: credentials, confinement,
    pending signals, a task whose registers could not be had. Names that tasks gave themselves are shown escaped.
    """
    from cptbpf.cli.view.table import check_names
    from cptbpf.image.reader import load

    names = check_names(fields) if fields is not None else []
    image, status = (load(options.source(file)), 0) if at is None else _recorded(file, at)
    tasks = image.tasks if pid is None else _only(image, pid)
    if form == "json":
        _json(image, tasks, names)
    elif names:
        from cptbpf.cli.view.table import field_lines

        emit(field_lines(tasks, names))
    else:
        _print(image, file, tasks, form, single=pid is not None)
    return status


def _recorded(file: str, at: str) -> "tuple[Image, int]":
    """The tasks of a recording at an instant, and the exit status that its end gives."""
    from cptbpf.cli.recordings import ended, instant
    from cptbpf.image.recording import Recording

    with Recording(options.source(file)) as recording:
        time = instant(recording, at)
        ending = recording.ending  # of all of it; what follows goes no further than it has to
        image = recording.at(time)
        return image, ended(ending, file)


def _only(image: "Image", pid: int) -> "tuple[TaskImage, ...]":
    found = tuple(task for task in image.tasks if task.task.pid == pid)
    if found:
        return found

    here = [task.task.pid for task in image.tasks if task.value("host_pid") == pid]
    hint = f"host pid {pid} is {here[0]} inside: --task {here[0]}" if here else "'cptbpf show FILE' lists the tasks"
    raise TargetError(f"the image has no task {pid}", hint)


def _json(image: "Image", tasks: "Iterable[TaskImage]", names: list[str]) -> None:
    from cptbpf.cli.document import document
    from cptbpf.cli.view.table import picker

    emit_text(document(image, tasks, picker(names) if names else None))


def _print(image: "Image", file: str, tasks: "tuple[TaskImage, ...]", form: str | None, single: bool) -> None:
    from cptbpf.cli.text import escape
    from cptbpf.cli.view import page, table, tree
    from cptbpf.cli.view.context import Context

    context = Context(image, escape(file, quote=False))
    emit([*context.heading(), ""])
    if single and form is None:
        for task in tasks:
            emit(page.lines(context, task))
    elif form == "table":
        emit(table.lines(context, tasks), cut=True)
    else:
        emit(tree.lines(context, tasks, narrow=0 < terminal_width() < _NARROW), cut=True)
    if not single and (foot := context.footing(tasks)):
        emit(["", *foot])
