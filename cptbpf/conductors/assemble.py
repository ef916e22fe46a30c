"""From what was read to the tasks of an image: who has registers from whom, who is partial, and in which order they stand."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from cptbpf.conductors.merge import Merger, Registers, kernel_registers
from cptbpf.conductors.surroundings import Surroundings
from cptbpf.conductors.target import parents_first
from cptbpf.image.model import TaskImage
from cptbpf.image.provenance import from_pass, while_running
from cptbpf.kernel.record import TASK_HAS_MM, TaskState
from cptbpf.kernel.symbols import Symbols
from cptbpf.kernel.tasks import FullTask, RawTask
from cptbpf.sched import EXITED, PF_EXITING, PF_KTHREAD, TASK_FROZEN, TASK_UNINTERRUPTIBLE
from cptbpf.trace import freezer as tracer
from cptbpf.trace import registers as user_registers


class Omission(NamedTuple):
    """A task whose user registers are not as good as asked for, and why; ``pid`` as in the namespace that was asked for."""

    pid: int
    host_pid: int
    why: str


class Freeze(NamedTuple):
    """How the window went: who stood still, who did not and why (errno; 0: not in time), who was to be let be; and the thread
    that traced them."""

    freezer: tracer.Freezer
    frozen: frozenset[int]
    why_not: Mapping[int, int]
    own: frozenset[int]
    tracer: int


class Assembly:
    """Makes the images of tasks. After :meth:`images`, ``partial`` and ``no_registers`` name the tasks that lack something."""

    def __init__(self, tasks: list[RawTask], earlier: Mapping[tuple[int, int, int], RawTask], freeze: Freeze | None) -> None:
        order = parents_first((task.host_pid, task.host_tgid, task.host_rppid) for task in tasks)
        self._tasks = deque(tasks[index] for index in order)
        self._earlier = earlier
        self._freeze = freeze
        self._merger = Merger(("A", "B") if freeze else ("A", "A"), Symbols(), freeze.tracer if freeze else 0)
        self.partial: list[Omission] = []
        self.no_registers: list[Omission] = []

    def leaders(self) -> Iterator[TaskState]:
        """The thread-group leaders, in the order of the image."""
        return (task.state() for task in self._tasks if task.host_pid == task.host_tgid)

    def images(self, surroundings: Mapping[int, Surroundings], registers: str) -> Iterator[TaskImage]:
        """Every task. ``registers`` says who takes those of frozen tasks: ``ptrace`` or ``bpf``."""
        while self._tasks:
            raw = self._tasks.popleft()
            task = raw.decoded()
            state = task.state
            shown, source, witness = self._registers(task, registers)
            why = self._note(state, shown)
            if why:
                source = while_running(source, why)
            before = self._earlier.get(raw.identity)
            earlier = before and (task if before is raw else before.decoded())
            yield self._merger.task(task, earlier, shown, source, witness, surroundings.get(state.host_pid, {}))

    def _registers(self, task: FullTask, registers: str) -> tuple[Registers, str, Registers | None]:
        """The registers for the image, who they are from, and the other view of them where there is one."""
        kernel = kernel_registers(task)
        source = from_pass("B" if self._freeze else "A")
        if self._freeze is None or registers == "bpf" or task.state.host_pid not in self._freeze.frozen:
            return kernel, source, None
        traced = _traced_registers(self._freeze.freezer, task.state.host_pid)
        return (kernel, source, None) if traced is None else (traced, "ptrace", kernel)

    def _note(self, state: TaskState, shown: Registers) -> str:
        """Files the task under partial or without registers, where it belongs there. Why it was not stopped though it should
        have been, or ""."""
        nature = _nature(state)
        if nature:
            if shown.regs is not None and self._freeze is not None:
                return nature  # exiting, and off the cpu
            self.no_registers.append(Omission(state.pid, state.host_pid, nature))
        elif self._freeze is None:
            if shown.regs is None:
                self.no_registers.append(Omission(state.pid, state.host_pid, shown.why))
        elif state.host_pid in self._freeze.own:
            if shown.regs is None:
                self.no_registers.append(
                    Omission(state.pid, state.host_pid, "cptbpf itself, or who waits for it: never stopped")
                )
        elif state.host_pid not in self._freeze.frozen:
            why = why_running(state, self._freeze.why_not.get(state.host_pid, 0))
            lack = "" if shown.regs else f"; no registers: {shown.why}"
            self.partial.append(Omission(state.pid, state.host_pid, why + lack))
            return why
        return ""


def _nature(state: TaskState) -> str:
    """Why a task has no user registers by nature, or ""."""
    if state.state & EXITED:
        return "zombie"
    if state.pf_flags & PF_KTHREAD:
        return "kernel thread"
    if state.pf_flags & PF_EXITING or not state.valid & TASK_HAS_MM:
        return "exiting"
    return ""


def why_running(state: TaskState, error: int) -> str:
    """Why a task was not stopped that should have been: SEIZE answered ``error``, or 0 and it did not stop.

    ``state`` is of the window: a task that was not refused has our own tracer for its parent there."""
    if error:
        if state.ptrace:
            return f"traced by another process (host pid {state.host_ppid})"
        return tracer.refusal(state.host_pid, error)
    if state.state & TASK_FROZEN:
        return "frozen by its cgroup"
    if state.state & TASK_UNINTERRUPTIBLE:  # so is a frozen one before 6.1
        return "in uninterruptible sleep"
    return "did not stop in time"


def _traced_registers(freezer: tracer.Freezer, tid: int) -> Registers | None:
    regs = freezer.regs(tid)
    if regs is None:
        return None
    return Registers(user_registers.parse(regs), freezer.xstate(tid), freezer.fxsave(tid))
