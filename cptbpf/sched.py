"""The kernel's words for tasks (include/linux/sched.h): bits of ``__state``, ``exit_state`` and ``flags``; what /proc shows.

They are macros, so that BTF does not have them; these have kept their values since 4.14, what came later is marked.
"""

from typing import Final

TASK_INTERRUPTIBLE: Final = 0x1
TASK_UNINTERRUPTIBLE: Final = 0x2
TASK_STOPPED: Final = 0x4  # __TASK_STOPPED
TASK_TRACED: Final = 0x8  # __TASK_TRACED
EXIT_DEAD: Final = 0x10
EXIT_ZOMBIE: Final = 0x20
TASK_PARKED: Final = 0x40
TASK_WAKEKILL: Final = 0x100
TASK_NOLOAD: Final = 0x400
TASK_RTLOCK_WAIT: Final = 0x1000  # 5.15, 5f220be21418 ("sched/wakeup: Prepare for RT sleeping spin/rwlocks")
TASK_FROZEN: Final = 0x8000  # 6.1, f5d39b020809 ("freezer,sched: Rewrite core freezer logic")

TASK_IDLE: Final = TASK_UNINTERRUPTIBLE | TASK_NOLOAD
EXITED: Final = EXIT_DEAD | EXIT_ZOMBIE
"""The exit states: the task has run for the last time."""
_TASK_REPORT: Final = 0x7F

PF_EXITING: Final = 0x00000004
PF_WQ_WORKER: Final = 0x00000020
PF_FORKNOEXEC: Final = 0x00000040
PF_SUPERPRIV: Final = 0x00000100
PF_DUMPCORE: Final = 0x00000200
PF_SIGNALED: Final = 0x00000400
PF_USED_MATH: Final = 0x00002000
PF_KTHREAD: Final = 0x00200000
PF_FREEZER_SKIP: Final = 0x40000000  # gone with 6.1, f5d39b020809


def state_letter(state: int) -> str:
    """What /proc shows of ``__state | exit_state``: ``task_state_index()`` and ``task_index_to_char()``.

    TASK_FROZEN is R before f718faf3940e ("freezer, sched: Report frozen tasks as 'D' instead of 'R'"), 6.13.
    """
    if state & TASK_IDLE == TASK_IDLE:
        return "I"
    if state & (TASK_RTLOCK_WAIT | TASK_FROZEN):
        return "D"
    return "RSDTtXZP"[(state & _TASK_REPORT).bit_length()]
