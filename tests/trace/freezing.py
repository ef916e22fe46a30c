"""What a conductor does with a Freezer, in its simplest form: with /proc for the list of tasks."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from cptbpf.trace.freezer import Freezer
from tests.harness import SLOWNESS, Target, until


def tasks_of(target: Target) -> set[int]:
    """Host thread ids of everything in the target's namespaces."""
    return {tid for pid in target.members() for tid in threads_of(pid)}


def threads_of(pid: int) -> set[int]:
    """Thread ids of one process; empty when it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return {int(tid) for tid in os.listdir(f"/proc/{pid}/task")}
    return set()


def status(tid: int, key: str) -> str:
    """A value of /proc/TID/status; "" when it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{tid}/status", errors="replace") as lines:
        for line in lines:
            if line.startswith(key + ":"):
                return line.partition(":")[2].strip()
    return ""


def state(tid: int) -> str:
    """The letter of a task's state; "" when it is gone."""
    return status(tid, "State")[:1]


def held_by_vfork(tids: Iterable[int], frozen: Iterable[int]) -> bool:
    """Do all of ``tids`` wait in D for a stopped child among ``frozen``?"""
    parents = {status(tid, "PPid") for tid in frozen if state(tid) == "t"}
    return all(state(tid) == "D" and status(tid, "Tgid") in parents for tid in tids)


class Frozen:
    """What came out of one freeze."""

    def __init__(self) -> None:
        self.freezer = Freezer()
        self.refused: dict[int, int] = {}
        self.pending: list[int] = []
        self.tids: set[int] = set()


def runs_free(tid: int) -> bool:
    """Is it neither stopped nor dead nor someone else's tracee?

    A thread that executes a program takes over its leader's id: so it may run under an id that has been seized and read, or
    that was refused as a zombie's.
    """
    if status(tid, "Tgid") == str(os.getpid()) or state(tid) in ("t", "Z", "X", ""):
        return False
    return status(tid, "TracerPid") in ("0", str(threading.get_native_id()))


def freeze(
    listing: Callable[[], Iterable[int]],
    while_frozen: Callable[[Frozen], None] | None = None,
    patience: float = 1,
    after_seize: Callable[[], None] | None = None,
) -> Frozen:
    """Freeze what ``listing()`` names until it names nothing new, read the registers, and let go.

    ``pending`` are those that had not stopped when ``patience`` seconds had passed, and parents in vfork of a stopped child.
    """
    frozen = Frozen()
    freezer = frozen.freezer

    def steps() -> None:
        first = set(listing())
        frozen.refused.update(freezer.seize(first))
        if after_seize:
            after_seize()
        freezer.interrupt(first)
        frozen.tids |= first
        deadline = time.monotonic() + patience * SLOWNESS
        while True:
            frozen.pending = freezer.read()
            again = {tid for tid in frozen.tids - set(frozen.pending) if runs_free(tid)}
            freezer.forget(again)
            new = again | set(listing()) - frozen.tids
            frozen.refused = {tid: error for tid, error in frozen.refused.items() if tid not in again} | freezer.seize(new)
            frozen.tids |= new
            freezer.interrupt(new)
            if not new and (held_by_vfork(frozen.pending, frozen.tids) or time.monotonic() > deadline):
                break
            time.sleep(0.0002)
        if while_frozen:
            while_frozen(frozen)
        freezer.release()

    freezer.run(steps)
    return frozen


def forever(pids: list[int]) -> None:
    """Freeze the threads of processes again and again, until killed; says ready before the second time."""
    while True:
        freeze(lambda: {tid for pid in pids for tid in threads_of(pid)}, patience=0.003)
        sys.stdout.write("ready\n")
        sys.stdout.flush()


if __name__ == "__main__":
    forever([int(pid) for pid in sys.argv[1:]])


def assert_untouched(tids: set[int]) -> None:
    """Nobody is stopped or traced. A task that has just been let go may still be on its way out of the stop."""
    for tid in tids:
        until(lambda: state(tid) not in ("t", "T"), f"task {tid} to go on")  # noqa: B023
        assert status(tid, "TracerPid") in ("0", "")
