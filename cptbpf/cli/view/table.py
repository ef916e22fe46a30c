"""One line per task: what most want to see, or the fields that were asked for."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cptbpf.cli.text import age, columns, comm, command_line, duration, escape
from cptbpf.cli.view.context import Context
from cptbpf.cli.view.state import doing, letter
from cptbpf.cli.view.unusual import notes
from cptbpf.cli.view.values import shown
from cptbpf.errors import TargetError
from cptbpf.fields import BY_NAME, GROUPS
from cptbpf.image.model import TaskImage, X86_64Regs, X86Regs

_HEADER = ("PID", "TGID", "PPID", "HOST", "USER", "S", "AGE", "UTIME", "STIME", "NVCSW", "NIVCSW", "MINFLT", "MAJFLT", "COMM")
_RIGHT = (0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12)

_REGISTERS = frozenset((*X86_64Regs._fields, *X86Regs._fields)) - BY_NAME.keys()
_EXTENSIONS: dict[str, Callable[[Any], str]] = {
    "pids": lambda levels: " ".join(f"{level.pid}@pid:[{level.ns}]" for level in levels),
    "groups": lambda gids: ",".join(map(str, gids)) or "none",
    "kstack": lambda frames: " < ".join(map(escape, frames)),
    "cgroup": escape,
    "cmdline": command_line,
    "exe": lambda exe: escape(exe.path) + (f" {exe.build_id.hex()}" if exe.build_id else ""),
}


def lines(context: Context, tasks: Iterable[TaskImage]) -> list[str]:
    """Every task with its times, switches, faults, and what it does."""
    rows = [(*_HEADER, "DOING"), *(_row(context, task) for task in tasks)]
    return columns(rows, _RIGHT)


def _row(context: Context, task: TaskImage) -> tuple[str, ...]:
    record = task.task
    host = task.value("host_pid")
    remarks = "; ".join(notes(task, context.meta))
    return (
        str(record.pid),
        str(record.tgid),
        str(record.rppid),
        "-" if host is None else str(host),
        context.user(record.euid),
        letter(task),
        age(context.age(task)),
        duration(record.utime),
        duration(record.stime),
        *map(str, (record.nvcsw, record.nivcsw, record.min_flt, record.maj_flt)),
        comm(record.comm),
        doing(task) + (f"  ! {remarks}" if remarks else ""),
    )


def check_names(text: str) -> list[str]:
    """The fields that a list with commas names. Raises TargetError for one that there is not, with what it may have meant."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = (*BY_NAME, *_EXTENSIONS, *sorted(_REGISTERS))
    for name in names:
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name.lower(), known, 3)
            raise TargetError(
                f"there is no field {name!r}" + (f": did you mean {' or '.join(near)}?" if near else ""),
                "'cptbpf fields' lists them; besides, there are registers, " + ", ".join(_EXTENSIONS),
            )
    if not names:
        raise TargetError("--fields names no field", "'cptbpf fields' lists them")
    return names


def field_lines(tasks: Iterable[TaskImage], names: Sequence[str]) -> list[str]:
    """A column for each of the fields, as JSON shows them."""
    rows = [tuple(name.upper() for name in names), *(tuple(_cell(task, name) for name in names) for task in tasks)]
    right = [index for index, name in enumerate(names) if name in BY_NAME and not BY_NAME[name].hex and name != "comm"]
    return columns(rows, right)


def _cell(task: TaskImage, name: str) -> str:
    if name in BY_NAME:
        return shown(BY_NAME[name], task.value(name))
    if name in _EXTENSIONS:
        found = task.ext.get(name)
        return "-" if found is None else _EXTENSIONS[name](found)
    found = getattr(task.regs, name, None)
    return "-" if found is None else " ".join(map(hex, found)) if isinstance(found, tuple) else hex(found)


def picker(names: Sequence[str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Makes of a task's JSON the same with these fields alone; the task's pid is always among them."""
    wanted = {*names, "pid"}

    def pick(task: dict[str, Any]) -> dict[str, Any]:
        ext = {}
        for name, part in task["ext"].items():
            if name in GROUPS:
                part = {field: found for field, found in part.items() if field in wanted}
            elif name not in wanted:
                continue
            if part or name in wanted:
                ext[name] = part
        picked = {"task": {name: found for name, found in task["task"].items() if name in wanted}, "ext": ext}
        if wanted & _REGISTERS and task["regs"] is not None:
            picked["regs"] = {name: found for name, found in task["regs"].items() if name in wanted}
        return picked

    return pick
