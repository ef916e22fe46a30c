"""``cptbpf list``: the pid namespaces of the machine."""

from typing import TYPE_CHECKING, Any

import click

from cptbpf.cli import options
from cptbpf.cli.output import emit, emit_json
from cptbpf.cli.text import columns, comm, command_line, escape

if TYPE_CHECKING:
    from cptbpf.proc.listing import Listed

_EPILOG = """\b
Examples:
  cptbpf list
  cptbpf snapshot --pidns "$(cptbpf list --json | jq -r '.[] | select(.container.name == "web").inode')\""""


@click.command(epilog=_EPILOG)
@options.json
def command(as_json: bool) -> None:
    """List the pid namespaces that somebody is in: inode number, level, leader and its command, tasks, container or cgroup.

    The inode number or the leader's pid is what 'snapshot --pidns' takes. Tasks are threads, those of namespaces further
    inside included. Without root, only namespaces of your own processes are seen.
    """
    from cptbpf.proc.listing import listing

    rows = listing()
    if as_json:
        emit_json([_shown(row) for row in rows])
        return
    table: list[tuple[str, ...]] = [("PIDNS", "LEVEL", "LEADER", "PROCS", "TASKS", "CONTAINER", "COMMAND")]
    table += [_cells(row) for row in rows]
    emit(columns(table, right=(1, 2, 3, 4)), cut=True)


def _cells(row: "Listed") -> tuple[str, ...]:
    level = "-" if row.level is None else str(row.level)
    leader = str(row.leader) if row.leader else "-"
    return (f"pid:[{row.inode}]", level, leader, str(row.processes), str(row.tasks), _where(row), _command(row))


def _command(row: "Listed") -> str:
    if isinstance(row.cmdline, bytes) and row.cmdline:
        return command_line(row.cmdline)
    return f"[{comm(row.comm)}]" if isinstance(row.comm, bytes) else f"({row.comm.reason})"


def _where(row: "Listed") -> str:
    if row.container is not None:
        name = row.container.name
        short = name[:12] if len(name) in (32, 64) else name
        return escape(f"{row.container.runtime} {short}") + (f" pod {escape(row.container.pod)}" if row.container.pod else "")
    return escape(row.cgroup) if isinstance(row.cgroup, bytes) else f"({row.cgroup.reason})"


def _shown(row: "Listed") -> dict[str, Any]:
    """The row as JSON: what could not be had is null."""
    return {
        "inode": row.inode,
        "level": row.level,
        "depth": row.depth,
        "parent": row.parent,
        "user_ns": row.user_ns,
        "leader": row.leader,
        "comm": _text(row.comm),
        "command": _joined(row.cmdline),
        "processes": row.processes,
        "tasks": row.tasks,
        "cgroup": _text(row.cgroup),
        "container": None if row.container is None else row.container._asdict(),
    }


def _text(value: object) -> str | None:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else None


def _joined(cmdline: object) -> str | None:
    """The arguments with spaces between them, as ps(1) shows them."""
    return _text(cmdline.rstrip(b"\0").replace(b"\0", b" ")) if isinstance(cmdline, bytes) else None
