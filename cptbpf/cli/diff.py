"""``cptbpf diff``: what changed between two images, or since an image was taken."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from cptbpf.cli import options
from cptbpf.cli.output import emit, emit_json

if TYPE_CHECKING:
    from cptbpf.conductors.diff import Change, Difference
    from cptbpf.image.model import Image, TaskImage

_REPEATS = ("utimescaled", "stimescaled")  # on x86 they repeat what is shown already
_COUNTED = ("bracket", "cputime", "shown", "ticks")  # rules of what rises
_SHORT = 60  # a value that is longer is not shown beside what it became

_EPILOG = """\b
Examples:
  cptbpf diff before.cpt after.cpt
  cptbpf diff web.cpt live                      what happened since the image was taken
  cptbpf diff web.cpt live --json | jq '.changed[] | select(.field == "euid")'

Exit status 1 where anything differs."""


@click.command(epilog=_EPILOG)
@click.argument("a", metavar="FILE")
@click.argument("b", metavar="FILE|live")
@options.json
def command(a: str, b: str, as_json: bool) -> int:
    """Compare an image with a later one, or with the tasks that are there now.

    A task is the same where its pid inside the namespace and its start are. Counters and times are shown as what was added to
    them. What either image lacks is not compared. 'live' looks at the tasks without stopping them, and needs root.
    """
    from cptbpf.conductors.diff import diff, live
    from cptbpf.image.reader import load

    if a == b == "-":
        raise click.UsageError("only one of the two can be standard input")
    before = load(options.source(a))
    after = live(before) if b == "live" else load(options.source(b))
    found = diff(before, after)
    if as_json:
        emit_json(_shown(found))
    else:
        emit(_lines(found, before, after), cut=True)
    return 1 if found else 0


def _shown(found: "Difference") -> dict[str, Any]:
    """The difference as JSON; its keys are a contract."""
    changed = [
        {"pid": change.pid, "host_pid": change.host_pid, "field": change.field, "a": change.a, "b": change.b}
        for change in found.changed
    ]
    return {"added": [_who(task) for task in found.added], "gone": [_who(task) for task in found.gone], "changed": changed}


def _who(task: "TaskImage") -> dict[str, Any]:
    from cptbpf.image.jsonio import task_to_json

    shown = task_to_json(task)["task"]
    who = {name: shown[name] for name in ("pid", "tgid", "ppid", "comm", "real_start_time")}
    return {"pid": who["pid"], "host_pid": task.value("host_pid"), **who}


def _lines(found: "Difference", before: "Image", after: "Image") -> Iterator[str]:
    from cptbpf.cli.text import columns, duration, plural

    tasks = {task.task.pid: task for task in before.tasks}
    changed: dict[int, list[Change]] = {}
    for change in found.changed:
        changed.setdefault(change.pid, []).append(change)
    counts = f"{len(found.added)} added, {len(found.gone)} gone, {len(changed)} changed"
    yield f"{counts}, within {duration(max(after.meta.realtime - before.meta.realtime, 0))}"
    if before.meta.strings.get("boot_id") != after.meta.strings.get("boot_id"):
        yield "! the images are not of one machine and boot: tasks that look the same need not be"
    elif before.meta.pid_ns != after.meta.pid_ns:
        yield f"! the images are of different pid namespaces, pid:[{before.meta.pid_ns}] and pid:[{after.meta.pid_ns}]"
    for sign, some in (("+", found.added), ("-", found.gone)):
        yield from (f"{sign} {_name(task)}" for task in some)
    for pid, changes in changed.items():
        yield f"~ {_name(tasks[pid])}"
        rows = [("   ", change.field, _change(change)) for change in changes if change.field not in _REPEATS]
        yield from columns(rows)
    if found.incomparable:
        yield f"not compared: {plural(found.incomparable, 'value')} that only one of the two has"


def _name(task: "TaskImage") -> str:
    from cptbpf.cli.text import comm, command_line

    host = task.value("host_pid")
    cmdline = command_line(task.ext.get("cmdline", b""))
    return f"{task.task.pid} {comm(task.task.comm)}" + (f" (here {host})" if host else "") + (f": {cmdline}" if cmdline else "")


def _change(change: "Change") -> str:
    """What became of a value: a rising counter or a time by what was added, anything else as it was and as it is."""
    from cptbpf.cli.text import escape
    from cptbpf.fields import BY_NAME

    field = BY_NAME.get(change.field)
    a, b = change.a, change.b
    if field is not None and field.rule in _COUNTED and isinstance(a, int) and isinstance(b, int):
        return ("-" if b < a else "+") + (_time(abs(b - a)) if field.unit == "ns" else str(abs(b - a)))
    before, after = (escape(value if isinstance(value, str) else str(value)) for value in (a, b))
    return "differs" if max(len(before), len(after)) > _SHORT else f"{before} -> {after}"


def _time(nanoseconds: int) -> str:
    from cptbpf.cli.text import duration

    return f"{nanoseconds / 1000:.1f}µs" if nanoseconds < 1_000_000 else duration(nanoseconds)
