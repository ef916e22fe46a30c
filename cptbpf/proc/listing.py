"""Every pid namespace of the machine, so that nobody has to know an inode number."""

import os
import re
from typing import NamedTuple

from cptbpf.errors import CptbpfError
from cptbpf.proc import pidns, stat, status
from cptbpf.proc.absent import Absent
from cptbpf.proc.process import Process


class Container(NamedTuple):
    """What a cgroup path says of who made it: ``runtime`` such as "docker", ``name`` an id or a name, ``pod`` of Kubernetes."""

    runtime: str
    name: str
    pod: str = ""


class Listed(NamedTuple):
    """A pid namespace.

    ``depth`` counts levels below cptbpf's own, as in :class:`cptbpf.proc.pidns.PidNamespace`, and so does ``level``. ``parent``
    and ``user_ns`` are inode numbers, 0 where not ours to see. ``leader`` is the pid of its init here, 0 where that may not be
    looked at; ``comm``, ``cmdline`` and ``cgroup`` are its, as raw bytes. ``processes`` and ``tasks`` (threads) are those in it
    and in the namespaces below it.
    """

    inode: int
    depth: int
    level: int | None
    parent: int
    user_ns: int
    leader: int
    comm: bytes | Absent
    cmdline: bytes | Absent
    processes: int
    tasks: int
    cgroup: bytes | Absent
    container: Container | None


class _Members:
    """What is collected of one namespace while /proc is gone through."""

    def __init__(self) -> None:
        self.pids: list[int] = []
        self.threads = 0


def listing() -> tuple[Listed, ...]:
    """The pid namespaces that somebody is in, each after its parent, by inode number among siblings.

    Raises:
        UnsupportedError: /proc is not mounted, or of another pid namespace.
    """
    own = pidns.own()
    own.close()
    found: dict[int, _Members] = {}
    for pid in pidns.processes():
        inode = pidns.inode_of(pid)
        threads = _threads(pid)
        if inode and threads:
            members = found.setdefault(inode, _Members())
            members.pids.append(pid)
            members.threads += threads
    rows = [row for inode, members in found.items() if (row := _row(inode, members, own))]
    return _in_order(_with_descendants(rows))


def _threads(pid: int) -> int:
    try:
        return max(stat.read(pid, pid).num_threads, 1)  # 0 for a zombie, which is still a task
    except (OSError, ValueError):
        return 0


def _row(inode: int, members: _Members, own: pidns.PidNamespace) -> Listed | None:
    """One namespace with its own members alone; None where it has vanished."""
    for pid in members.pids:
        try:
            namespace = own if inode == own.inode else pidns.of_process(pid)
            break
        except CptbpfError:
            continue
    else:
        return None
    parent = 0
    if namespace is not own:
        parent = pidns.parent_inode(namespace.fd)
        namespace.close()
    leader = next((pid for pid in members.pids if _is_init(pid)), 0)
    comm: bytes | Absent
    cmdline: bytes | Absent
    cgroup: bytes | Absent
    comm = cmdline = cgroup = Absent("its init may not be looked at")
    if leader:
        with Process(leader) as process:
            comm, cmdline, cgroup = process.comm(), process.cmdline(), process.cgroup()
    return Listed(
        inode=inode,
        depth=namespace.depth,
        level=namespace.level,
        parent=parent,
        user_ns=namespace.user_ns,
        leader=leader,
        comm=comm,
        cmdline=cmdline,
        processes=len(members.pids),
        tasks=members.threads,
        cgroup=cgroup,
        container=None if isinstance(cgroup, Absent) else container(cgroup),
    )


def _is_init(pid: int) -> bool:
    """Whether a process is pid 1 of its own namespace."""
    return status.words(pid, b"NSpid")[-1:] == [b"1"]


def _with_descendants(rows: list[Listed]) -> list[Listed]:
    by_inode = {row.inode: row for row in rows}
    processes = dict.fromkeys(by_inode, 0)
    tasks = dict.fromkeys(by_inode, 0)
    for row in rows:
        inode = row.inode
        while inode in by_inode:
            processes[inode] += row.processes
            tasks[inode] += row.tasks
            inode = by_inode[inode].parent
    return [row._replace(processes=processes[row.inode], tasks=tasks[row.inode]) for row in rows]


def _in_order(rows: list[Listed]) -> tuple[Listed, ...]:
    children: dict[int, list[Listed]] = {}
    inodes = {row.inode for row in rows}
    for row in rows:
        children.setdefault(row.parent if row.parent in inodes else 0, []).append(row)
    ordered: list[Listed] = []
    pending = sorted(children.get(0, []), reverse=True)
    while pending:
        row = pending.pop()
        ordered.append(row)
        pending += sorted(children.get(row.inode, []), reverse=True)
    return tuple(ordered)


_ID = rb"([0-9a-f]{64}|[0-9a-f]{32})"
_PATTERNS: tuple[tuple[str, bytes], ...] = (
    ("docker", rb"docker-" + _ID + rb"\.scope"),
    ("docker", rb"/docker/" + _ID),
    ("containerd", rb"cri-containerd-" + _ID + rb"\.scope"),
    ("containerd", rb"(?:nerdctl|containerd)-" + _ID + rb"\.scope"),
    ("cri-o", rb"crio-" + _ID + rb"\.scope"),
    ("podman", rb"libpod(?:-payload)?-" + _ID),
    ("kubernetes", rb"/kubepods.*/" + _ID),
    ("lxc", rb"/lxc\.payload\.([^/]+)"),
    ("lxc", rb"/lxc/([^/]+)"),
    ("systemd-nspawn", rb"/systemd-nspawn@([^/]+)\.service"),
    ("machine", rb"/machine-([^/]+)\.scope"),
    ("containerd", rb"/default/" + _ID),
)
_POD = re.compile(rb"/kubepods.*pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})")


def container(cgroup: bytes) -> Container | None:
    """The container that a cgroup path speaks of, the innermost of them; None where it is none that is known."""
    matches = [(match.end(), -rank, match) for rank, (_, p) in enumerate(_PATTERNS) for match in re.finditer(p, cgroup)]
    if not matches:
        return None
    _, rank, match = max(matches, key=lambda found: found[:2])
    pod = _POD.search(cgroup)
    return Container(
        runtime=_PATTERNS[-rank][0],
        name=os.fsdecode(match[1]),
        pod=pod[1].decode("ascii").replace("_", "-") if pod else "",
    )
