"""The state of every task of a target in one kernel pass, which disturbs nobody."""

from cptbpf.conductors.target import members, resolve
from cptbpf.kernel.tasks import TaskReader, TaskTable


def tasks(*, pidns: str | int | None = None, pid: int | None = None) -> TaskTable:
    """Every task of a pid namespace (``pidns``, as ``--pidns`` takes it) or of the process tree below ``pid``.

    What comes back is decoded when it is looked at: iterate for one :class:`~cptbpf.kernel.record.TaskState` per task, or take
    just the columns that are needed: ``tasks(pidns=...).columns("pid", "comm", "utime")``.

    Raises TargetError, PrivilegeError, UnsupportedError.
    """
    with TaskReader() as reader:
        target = resolve(reader, pidns, pid)
        table = reader.states()
        return table if (inside := members(table, target)) is None else table.only(inside)
