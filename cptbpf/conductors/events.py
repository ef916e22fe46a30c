"""What a sampler tells: one type per event. Times are ns; a task is as it was at that instant."""

from typing import NamedTuple

from cptbpf.kernel.record import TaskState


class Sample(NamedTuple):
    """A task's state: its interval was due, or it was asked for."""

    time_ns: int  # CLOCK_REALTIME, by the clock's setting when the sampler was opened
    task: TaskState

    @property
    def event(self) -> str:
        """``sample``"""
        return "sample"


class Fork(NamedTuple):
    """A new task, process or thread, that has not run yet."""

    time_ns: int
    task: TaskState

    @property
    def event(self) -> str:
        """``fork``"""
        return "fork"


class Exec(NamedTuple):
    """A task executes another program. ``old_pid`` is the id that it had before where its leader's became its own, else 0."""

    time_ns: int
    task: TaskState
    old_pid: int

    @property
    def event(self) -> str:
        """``exec``"""
        return "exec"


class Exit(NamedTuple):
    """A task ran for the last time: its counters are final, ``task.exit_code`` is in the kernel's form.

    ``old_pid`` is the id under which it was known where that changed last, else 0.
    """

    time_ns: int
    task: TaskState
    old_pid: int

    @property
    def event(self) -> str:
        """``exit``"""
        return "exit"


class Cred(NamedTuple):
    """A task's credentials were replaced. ``before`` is its last known state, or None."""

    time_ns: int
    task: TaskState
    before: TaskState | None

    @property
    def event(self) -> str:
        """``cred``"""
        return "cred"


class Drop(NamedTuple):
    """Reports that were lost here: ``lost`` of them on ``cpu`` (-1: unknown).

    ``why`` is ``full`` (no room in the ring buffer), ``memory`` (tasks that are not followed for want of it) or ``busy`` (an
    exec for which the kernel ran no program; it is told at the task's end).
    """

    time_ns: int
    cpu: int
    lost: int
    why: str

    @property
    def event(self) -> str:
        """``drop``"""
        return "drop"


TaskEvent = Sample | Fork | Exec | Exit | Cred
Event = TaskEvent | Drop
EVENTS: tuple[str, ...] = ("sample", "fork", "exec", "exit", "cred", "drop")

#: The credentials that a record holds.
CREDENTIALS: tuple[str, ...] = (
    *("user", "uid", "euid", "suid", "fsuid", "gid", "egid", "sgid", "fsgid", "securebits"),
    *("cap_inheritable", "cap_permitted", "cap_effective", "cap_bset", "cap_ambient", "no_new_privs"),
    *("seccomp_mode", "seccomp_filters", "ngroups", "user_ns"),
)
