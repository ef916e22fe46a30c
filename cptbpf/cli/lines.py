"""A sampler's events as lines: JSON Lines and CSV.

Every line begins with what happened, when, and to whom; then come the fields that were asked for. In JSON, ns are decimal
strings, masks and addresses of 64 bits ``"0x…"`` strings, other integers numbers; what the kernel or the task does not have
is null (in CSV: empty). ``time_ns`` is when it happened, so that the field of this name, the time namespace, is
``time_namespace`` here. comm is text with bytes that are not UTF-8 as surrogate escapes; in CSV it is escaped as ``show`` does.
"""

import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

from cptbpf import fields
from cptbpf.cli.text import comm
from cptbpf.conductors.events import CREDENTIALS, Cred, Drop, Event, Exec, Exit, TaskEvent
from cptbpf.errors import TargetError
from cptbpf.kernel import record
from cptbpf.kernel.record import TaskState

#: Who it is: on every line.
HEAD: tuple[str, ...] = ("pid", "tgid", "host_pid", "start_boottime", "comm")

#: What a line says besides, where no fields are asked for.
DEFAULT: tuple[str, ...] = (
    *("state", "rppid", "uid", "euid", "cpu", "utime", "stime", "gtime", "sum_exec_runtime", "run_delay", "run_count"),
    *("nvcsw", "nivcsw", "min_flt", "maj_flt", "rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes"),
    "cancelled_write_bytes",
)

#: Everything that there is.
ALL: tuple[str, ...] = tuple(name for name in TaskState._fields if name != "valid" and name not in HEAD)

_NS = {"start_time", "start_boottime", *(field.name for field in fields.FIELDS if field.unit == "ns")}
_HEX = {name for name, (code, _) in record.TASK_COLUMNS.items() if code == "Q" and name in fields.BY_NAME} & {
    field.name for field in fields.FIELDS if field.hex
}
_BITS = {field.name: int(getattr(record, f"TASK_HAS_{field.needs}")) for field in fields.FIELDS if field.needs}
_PLACE = {name: index for index, name in enumerate(TaskState._fields)}
_KEYS = {"time_ns": "time_namespace"}  # time_ns is when it happened, on every line
_NAMES = {key: name for name, key in _KEYS.items()}
_COMM = HEAD.index("comm")


def check(names: str) -> tuple[str, ...]:
    """The fields of a comma-separated list; ``all`` is all of them. Raises TargetError for a name that is none."""
    wanted: list[str] = []
    for part in filter(None, (part.strip() for part in names.split(","))):
        name = _NAMES.get(part, part)
        if name == "all":
            wanted += ALL
        elif name in _PLACE and name != "valid":
            wanted.append(name)
        else:
            from difflib import get_close_matches

            near = get_close_matches(name, ALL, 1)
            remedy = f"did you mean '{near[0]}'?" if near else "'cptbpf fields' lists those of an image; 'all' takes every one"
            raise TargetError(f"a sample has no field '{name}'", remedy)
    return tuple(name for name in dict.fromkeys(wanted) if name not in HEAD)


class JsonLines:
    """Events as JSON, one object a line."""

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self._names = DEFAULT if names is None else tuple(names)
        self._asked = names is not None
        self._made: dict[tuple[str, int], tuple[str, tuple[int, ...]]] = {}
        self._comms: dict[bytes, str] = {}

    def header(self) -> str:
        """Nothing."""
        return ""

    def line(self, event: Event) -> str:
        """One event, with its line's end."""
        if isinstance(event, Drop):
            return (
                f'{{"event": "drop", "time_ns": "{event.time_ns}", "cpu": {event.cpu}, "lost": {event.lost}, '
                f'"why": "{event.why}"}}\n'
            )
        task = event.task
        made = self._made.get((event.event, task.valid))
        if made is None:
            made = self._made[event.event, task.valid] = self._make(event.event, task.valid)
        template, places = made
        values: list[Any] = [task[place] for place in places]
        values[_COMM] = self._comm(task.comm)
        return template % (event.time_ns, *values) + _more(event) + "}\n"

    def _make(self, event: str, valid: int) -> tuple[str, tuple[int, ...]]:
        """A line's template, and which values of a TaskState go into it behind the time."""
        parts, places = [f'{{"event": "{event}", "time_ns": "%d"'], []
        for name in (*HEAD, *_of(event, self._names, self._asked)):
            key = _KEYS.get(name, name)
            if name in _BITS and not valid & _BITS[name]:
                parts.append(f'"{key}": null')
            else:
                parts.append(f'"{key}": {_form(name)}')
                places.append(_PLACE[name])
        return ", ".join(parts), tuple(places)

    def _comm(self, name: bytes) -> str:
        shown = self._comms.get(name)
        if shown is None:
            if len(self._comms) > 10000:
                self._comms.clear()
            text = name.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            shown = self._comms[name] = json.dumps(text).replace("\x7f", "\\u007f")
        return shown


def _form(name: str) -> str:
    return "%s" if name == "comm" else '"%d"' if name in _NS else '"%#x"' if name in _HEX else "%d"


def _of(event: str, names: Sequence[str], asked: bool) -> list[str]:
    """The fields of an event's line."""
    more: Collection[str] = ()
    if event == "exit":
        more = ("exit_code",)
    elif event == "cred" and not asked:
        more = CREDENTIALS
    return list(dict.fromkeys((*names, *more)))


def _more(event: TaskEvent) -> str:
    """What only some events have, as JSON."""
    if isinstance(event, Exec | Exit):
        return f', "old_pid": {event.old_pid}'
    if isinstance(event, Cred):
        return f', "before": {_before(event)}'
    return ""


def _before(event: Cred) -> str:
    """Which credentials were others, and what they were; null where that is not known."""
    if event.before is None:
        return "null"
    changed = [name for name in CREDENTIALS if getattr(event.before, name) != getattr(event.task, name)]
    values: list[tuple[str, Any]] = [(name, getattr(event.before, name)) for name in changed]
    return json.dumps({name: hex(value) if name in _HEX else value for name, value in values})


class Csv:
    """Events as comma-separated values: every line has every column."""

    _SPECIAL = frozenset(',"\r\n')

    def __init__(self, names: Sequence[str] | None = None) -> None:
        chosen = DEFAULT if names is None else tuple(names)
        self._columns = (*HEAD, *(name for name in chosen if name != "exit_code"))
        shown: dict[str, Callable[[Any], str]] = {"comm": self._comm, **dict.fromkeys(_HEX, hex)}
        self._cells = [(_PLACE[name], _BITS.get(name, 0), shown.get(name, str)) for name in self._columns]

    def header(self) -> str:
        """The line of names."""
        columns = [_KEYS.get(name, name) for name in self._columns]
        return ",".join(("event", "time_ns", *columns, "exit_code", "old_pid", "lost", "why")) + "\n"

    def line(self, event: Event) -> str:
        """One event, with its line's end."""
        if isinstance(event, Drop):
            cells = [str(event.cpu) if name == "cpu" else "" for name in self._columns]
            rest = ("", "", str(event.lost), event.why)
        else:
            task = event.task
            cells = ["" if bit and not task.valid & bit else shown(task[place]) for place, bit, shown in self._cells]
            code = str(task.exit_code) if isinstance(event, Exit) else ""
            rest = (code, str(event.old_pid) if isinstance(event, Exec | Exit) else "", "", "")
        return ",".join((event.event, str(event.time_ns), *cells, *rest)) + "\n"

    def _comm(self, name: bytes) -> str:
        shown = comm(name)
        if self._SPECIAL.isdisjoint(shown):
            return shown
        return '"' + shown.replace('"', '""') + '"'
