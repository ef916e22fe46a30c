"""What only /proc tells of a process: executable, command line, cgroup. Read after the thaw, believed of the same task only."""

import os
from collections.abc import Iterable, Mapping
from typing import Any

from cptbpf.image.model import Exe
from cptbpf.image.provenance import ABSENT
from cptbpf.kernel.record import TASK_HAS_MM, TaskState
from cptbpf.kernel.tasks import TaskReader
from cptbpf.proc import namespaces
from cptbpf.proc.absent import GONE, Absent
from cptbpf.proc.buildid import Cache
from cptbpf.proc.process import Process

#: Values by group, or ``absent: reason``.
Surroundings = Mapping[str, Any]

_CHANGED = f"{ABSENT}the process ended or executed another program before /proc was read"


def read(reader: TaskReader, leaders: Iterable[TaskState]) -> dict[int, Surroundings]:
    """The surroundings of processes, by the host pid of each.

    A last kernel pass confirms that each pid still means the same task (tid and start_boottime) in the same program (exec_id);
    where it does not, its values are absent.
    """
    wanted = list(leaders)
    cache, covers = Cache(), namespaces.covers()
    found = {leader.host_pid: _read(leader, cache) for leader in wanted}
    cache.save()
    now = {pid: identity for pid, *identity in reader.states().columns("host_pid", "start_boottime", "exec_id")}
    for leader in wanted:
        pid, values = leader.host_pid, found[leader.host_pid]
        if now.get(pid) != [leader.start_boottime, leader.exec_id]:
            found[pid] = dict.fromkeys(values, _CHANGED)
        elif places := covers.get(pid):  # what is mounted there may be another process's, or anything
            found[pid] = dict.fromkeys(values, f"{ABSENT}not believed: a mount over {places[0]}")
        elif values["cgroup"] == ABSENT + GONE:
            found[pid] = dict.fromkeys(values, f"{ABSENT}/proc does not show the process")
    return found


def _read(leader: TaskState, cache: Cache) -> Surroundings:
    with Process(leader.host_pid) as process:
        values: dict[str, Any] = {"cgroup": _or_reason(process.cgroup())}
        if not leader.valid & TASK_HAS_MM:
            reason = f"{ABSENT}the task is dead, or a kernel thread"
            return values | {"exe": reason, "cmdline": reason}
        values["cmdline"] = _or_reason(process.cmdline())
        path = process.exe_path()
        if isinstance(path, Absent):
            return values | {"exe": ABSENT + path.reason}
        descriptor = process.open_exe(leader.exe_dev)
        if isinstance(descriptor, Absent):
            return values | {"exe": Exe(path, b""), "exe.build_id": ABSENT + descriptor.reason}
        try:
            build_id = cache.of(descriptor)
        finally:
            os.close(descriptor)
    if isinstance(build_id, Absent):
        return values | {"exe": Exe(path, b""), "exe.build_id": ABSENT + build_id.reason}
    return values | {"exe": Exe(path, build_id)}


def _or_reason(value: bytes | Absent) -> bytes | str:
    return ABSENT + value.reason if isinstance(value, Absent) else value
