"""What a command is about: a pid namespace, or the process tree below one process."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from cptbpf.errors import PrivilegeError, TargetError
from cptbpf.kernel.tasks import TaskReader, TaskTable
from cptbpf.proc import pidns, status


class Target(NamedTuple):
    """A target. Ids are those of the pid namespace ``inode`` at ``level`` (counted from the initial namespace).

    ``root`` is the process, by its pid in cptbpf's own namespace, whose tree is meant; 0 for the whole namespace.
    """

    inode: int
    level: int
    user_ns: int
    root: int
    request: str


def resolve(reader: TaskReader, ns: str | int | None, pid: int | None) -> Target:
    """The target that exactly one of ``ns`` (as ``--pidns`` takes it) and ``pid`` names; ``reader`` is set to it.

    Raises TargetError where there is no such thing, PrivilegeError where it may not be looked at.
    """
    if (ns is None) == (pid is None):
        raise TargetError("name one target: a pid namespace or a process", "give either --pidns NS or --pid PID")
    if pid is not None:
        target = _of_process(reader, pid, f"pid {pid}", True)
    elif (number := pidns.as_pid(str(ns))) is not None:
        target = _of_process(reader, number, f"pidns {ns}", False)
    elif (inode := pidns.as_inode(str(ns))) is not None:
        target = _of_inode(reader, inode, f"pidns {ns}")
    else:
        target = _of_namespace(reader, pidns.resolve(str(ns)), f"pidns {ns}", 0)
    reader.ask(target.inode, target.level)
    return target


def _of_process(reader: TaskReader, pid: int, request: str, tree: bool) -> Target:
    """The namespace of a process, or the tree below it. The kernel has the last word: /proc may hide a process, or show another
    one in its place."""
    task = _task(reader, pid)
    if task is None:  # some sandboxes keep tasks from the iterator
        leader = _leader(pid)
        return _of_namespace(reader, pidns.of_process(leader), request, leader if tree else 0)
    leader, inode, level = task
    user_ns = 0
    with suppress(TargetError, PrivilegeError):
        found = pidns.of_process(leader)
        user_ns = found.user_ns if found.inode == inode else 0
        found.close()
    return Target(inode, level, user_ns, leader if tree else 0, request)


def _of_inode(reader: TaskReader, inode: int, request: str) -> Target:
    """The namespace of that inode number. Where /proc hides everybody who is in it, the kernel still knows of it."""
    try:
        return _of_namespace(reader, pidns.by_inode(inode), request, 0)
    except TargetError:
        rows = _own_pass(reader).columns("pid_ns", "ns_level")
        level = next((level for found, level in rows if found == inode), None)
        if level is None:
            raise
        return Target(inode, level, 0, 0, request)


def _of_namespace(reader: TaskReader, found: pidns.PidNamespace, request: str, root: int) -> Target:
    found.close()  # its inode number stays its own while a task is in it, and every pass finds none once there is none
    return Target(found.inode, reader.own_level + found.depth, found.user_ns, root, request)


def _task(reader: TaskReader, pid: int) -> tuple[int, int, int] | None:
    """Thread group, pid namespace and its level of a task, as the kernel has them; None where a pass does not show it."""
    rows = _own_pass(reader).columns("host_pid", "host_tgid", "pid_ns", "ns_level")
    return next(((tgid, inode, level) for host_pid, tgid, inode, level in rows if host_pid == pid), None)


def _own_pass(reader: TaskReader) -> TaskTable:
    """Every task that cptbpf's own pid namespace sees."""
    pidns.check_proc()
    reader.ask_own()
    return reader.states()


def _leader(pid: int) -> int:
    """The thread group of a task: a thread's id means its process."""
    group = status.words(pid, b"Tgid")
    if not group:
        raise TargetError(f"there is no process {pid}", "see ps(1); with --pidns, 'cptbpf list' shows the namespaces")
    return int(group[0])


def members(table: TaskTable, target: Target) -> set[int] | None:
    """The tasks of a pass that belong to the target, by their ids in cptbpf's own namespace; None where they all do."""
    if not target.root:
        return None
    return below(target.root, table.columns("host_pid", "host_tgid", "host_rppid"))


def below(root: int, tasks: Iterable[tuple[int, int, int]]) -> set[int]:
    """The tasks of the process tree below ``root``, itself included; each is (host_pid, host_tgid, host_rppid)."""
    rows = list(tasks)
    groups = {pid: tgid for pid, tgid, _ in rows}
    inside = {root: True}
    parents = {tgid: groups.get(parent, 0) for pid, tgid, parent in rows if pid == tgid}
    for tgid in parents:
        _inside(tgid, parents, inside)
    return {pid for pid, tgid in groups.items() if inside.get(tgid)}


def _inside(tgid: int, parents: Mapping[int, int], known: dict[int, bool]) -> None:
    """Decides for a process and for all on its way up whether they are below a known one."""
    way = []
    while tgid not in known and tgid in parents and tgid not in way:
        way.append(tgid)
        tgid = parents[tgid]
    answer = known.get(tgid, False)
    known.update((step, answer) for step in way)


def own_tasks(table: TaskTable) -> set[int]:
    """cptbpf's own tasks and those of its ancestors, which must go on running: host ids, as far as the pass shows them."""
    groups = dict(table.columns("host_pid", "host_tgid"))
    parents = {
        tgid: groups.get(parent, 0) for pid, tgid, parent in table.columns("host_pid", "host_tgid", "host_rppid") if pid == tgid
    }
    mine, step = set(), os.getpid()
    while step in parents and step not in mine:
        mine.add(step)
        step = parents[step]
    return {pid for pid, tgid in groups.items() if tgid in mine}


def parents_first(tasks: Iterable[tuple[int, int, int]]) -> list[int]:
    """An order in which a leader comes before its threads and a parent before its children.

    Each task is (host_pid, host_tgid, host_rppid); the result are indices into them.
    """
    rows = list(tasks)
    groups = {pid: tgid for pid, tgid, _ in rows}
    threads: dict[int, list[int]] = {}
    children: dict[int, list[int]] = {}
    tops: list[int] = []
    for index, (pid, tgid, parent) in sorted(enumerate(rows), key=lambda item: (item[1][0] != item[1][1], item[0])):
        threads.setdefault(tgid, []).append(index)
        if pid == tgid:
            above = groups.get(parent, 0)
            if above and above != tgid:
                children.setdefault(above, []).append(tgid)
            else:
                tops.append(tgid)
    order: list[int] = []
    pending = tops[::-1]
    while pending:
        tgid = pending.pop()
        order += threads.pop(tgid, ())
        pending += children.pop(tgid, [])[::-1]
    return order + [index for rest in threads.values() for index in rest]  # threads whose leader this pass did not see
