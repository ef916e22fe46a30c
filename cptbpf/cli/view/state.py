"""What a task was doing: its state, how it ended or why it stands, and the system call that it is in."""

import signal

from cptbpf.cli.text import escape
from cptbpf.cli.view import calls
from cptbpf.cli.view.values import number
from cptbpf.image.model import TaskImage
from cptbpf.image.provenance import is_absent, is_sampled, not_stopped, reason
from cptbpf.sched import PF_KTHREAD, TASK_FROZEN, state_letter

_JOBCTL_TRAP_FREEZE = 1 << 23
WORDS = {
    "R": "running or runnable",
    "S": "sleeping",
    "D": "uninterruptible sleep",
    "I": "idle kernel thread",
    "T": "stopped",
    "t": "stopped by a tracer",
    "Z": "zombie",
    "X": "dead",
    "P": "parked",
}


def letter(task: TaskImage) -> str:
    """The state's letter, as ps(1) has it."""
    return state_letter(task.task.state)


def dead(task: TaskImage) -> bool:
    """Whether the task has ended: a zombie, or on its way out of the list."""
    return letter(task) in "ZX"


def recorded(task: TaskImage) -> bool:
    """Whether the task is of a recording: then nobody has registers, which is said once."""
    return is_sampled(task.source("task"))


def kernel_thread(task: TaskImage) -> bool:
    """Whether the task never runs in user mode."""
    return bool(number(task, "pf_flags") & PF_KTHREAD)


def was_running(task: TaskImage) -> bool:
    """Whether the task was not stopped, in an image for which tasks were, though it has user registers."""
    if dead(task) or kernel_thread(task):
        return False
    return task.regs is None or bool(not_stopped(task.source("regs")))


def signal_name(number: int) -> str:
    """``SIGTERM``, ``SIGRTMIN+3``."""
    if 34 < number <= 64:  # SIGRTMIN is 34 for programs that use the C library
        return f"SIGRTMIN+{number - 34}"
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def signals(mask: int) -> str:
    """The names of the signals in a mask."""
    return " ".join(signal_name(bit + 1) for bit in range(64) if mask >> bit & 1)


def exit_words(code: int) -> str:
    """An exit code in the kernel's form (that of wait(2)), in words."""
    if code & 0x7F:
        return f"killed by {signal_name(code & 0x7F)}" + (", core dumped" if code & 0x80 else "")
    return f"exited with status {code >> 8 & 0xFF}"


def doing(task: TaskImage) -> str:
    """What the task is stuck in, or busy with, in one phrase."""
    state = letter(task)
    if state in "ZX":
        return exit_words(task.task.exit_code)
    words = _standing(task, state)
    if kernel_thread(task):
        return _joined(words, "kernel thread", top(task))
    call = calls.call(task)
    if state == "R":
        return _joined(words, f"in or leaving {call}" if call else _user_mode(task), top(task))
    if not call:
        call = _without_call(task)
    return _joined(words, call, top(task))


def _standing(task: TaskImage, state: str) -> str:
    """Why it does not run, where the state alone says so; for one that may, where."""
    if state == "R":
        on_cpu = task.value("on_cpu")
        if on_cpu is None:
            return "running"
        return f"on cpu {number(task, 'cpu')}" if on_cpu else "waits for a cpu"
    if state == "T":
        by = number(task, "group_exit_code") & 0x7F or task.task.exit_code & 0x7F
        return f"stopped by {signal_name(by)}" if by else "stopped"
    if state == "t":
        return "stopped by its tracer"
    if number(task, "jobctl") & _JOBCTL_TRAP_FREEZE or task.task.state & TASK_FROZEN:
        return "frozen by its cgroup"
    return ""


def _user_mode(task: TaskImage) -> str:
    """Of a task that may run and is in no system call; "" where its registers are not known."""
    if task.regs is None:
        return _without_call(task)
    return "an exception" if any(frame.startswith("asm_exc_") for frame in task.ext.get("kstack", ())) else "in user mode"


def _without_call(task: TaskImage) -> str:
    """Asleep in no system call: a fault that waits for a page, say. Without registers nobody can tell."""
    if task.regs is not None:
        return "" if letter(task) in "Tt" else "an exception"
    source = "" if recorded(task) else task.source("regs")
    return f"no registers: {escape(reason(source))}" if is_absent(source) else ""


def top(task: TaskImage) -> str:
    """The innermost function of the kernel stack, without offset and compiler's suffix."""
    stack = task.ext.get("kstack", ())
    return f"[{escape(stack[0].partition('+')[0].partition('.')[0])}]" if stack else ""


def _joined(*parts: str) -> str:
    """The parts that there are; the function of the kernel stack, in its brackets, is not set off."""
    words = ", ".join(part for part in parts if part and not part.startswith("["))
    return " ".join(part for part in (words, *(part for part in parts if part.startswith("["))) if part)
