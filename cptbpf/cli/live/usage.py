"""What tasks used between two looks at them."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from cptbpf.kernel.record import TaskState
from cptbpf.sched import state_letter


class Usage(NamedTuple):
    """One task: its state now, and what it used since the last look. CPU times and delay in % of one CPU, the rest a second."""

    task: TaskState
    cpu: float
    user: float
    system: float
    voluntary: float
    involuntary: float
    faults: float
    delay: float
    credentials: int  # changes since the beginning

    @property
    def letter(self) -> str:
        """The state's letter, as ps(1) has it."""
        return state_letter(self.task.state)


#: A look: when (ns), and the state, by pid.
Look = Mapping[int, tuple[int, TaskState]]


def usage(before: Look, now: Look, credentials: Mapping[int, int]) -> list[Usage]:
    """What every task of ``now`` used since ``before``; one that was not there then, since its birth."""
    return [_usage(time, task, before.get(pid), credentials.get(pid, 0)) for pid, (time, task) in now.items()]


def _usage(time: int, task: TaskState, earlier: tuple[int, TaskState] | None, credentials: int) -> Usage:
    if earlier is None or earlier[1].start_boottime != task.start_boottime or time <= earlier[0]:
        return Usage(task, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, credentials)
    then, old = earlier
    passed = time - then

    def rose(*names: str) -> int:
        return int(max(sum(getattr(task, name) - getattr(old, name) for name in names), 0))

    def share(name: str) -> float:
        return 100 * rose(name) / passed

    def rate(*names: str) -> float:
        return 1e9 * rose(*names) / passed

    return Usage(
        task,
        share("sum_exec_runtime"),
        share("utime"),
        share("stime"),
        rate("nvcsw"),
        rate("nivcsw"),
        rate("min_flt", "maj_flt"),
        share("run_delay"),
        credentials,
    )


class Order(NamedTuple):
    """A way to sort: its key on the keyboard, its name, and what it goes by; the greatest first unless ``rising``."""

    key: str
    name: str
    by: Callable[[Usage], object]
    rising: bool = False


ORDERS = (
    Order("c", "cpu", lambda one: one.cpu),
    Order("u", "user", lambda one: one.user),
    Order("s", "system", lambda one: one.system),
    Order("v", "voluntary", lambda one: one.voluntary),
    Order("i", "involuntary", lambda one: one.involuntary),
    Order("f", "faults", lambda one: one.faults),
    Order("d", "delay", lambda one: one.delay),
    Order("k", "credentials", lambda one: one.credentials),
    Order("p", "pid", lambda one: one.task.pid, True),
    Order("n", "name", lambda one: one.task.comm.partition(b"\0")[0], True),
)


def arranged(rows: Iterable[Usage], order: Order, matches: Callable[[Usage], bool]) -> list[Usage]:
    """The rows that match, sorted; those that are equal by pid."""
    kept = sorted((row for row in rows if matches(row)), key=lambda one: one.task.pid)
    kept.sort(key=order.by, reverse=not order.rising)  # type: ignore[arg-type]
    return kept
