"""The tasks that are looked at: started in a pid namespace of their own, gone with the ``with`` block."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.harness import Target, build


@contextmanager
def threads(count: int, name: str = "threads", namespace: bool = True) -> Iterator[Target]:
    """A process with ``count`` sleeping threads beside its first one, in a pid namespace of its own unless that is False."""
    target = Target([str(build(name)), str(count)], int(namespace), False, True, ())
    try:
        yield target
    finally:
        target.close()


@contextmanager
def processes(count: int) -> Iterator[Target]:
    """``count`` sleeping processes beside their parent."""
    script = f"i=0; while [ $i -lt {count} ]; do sleep 1000000 & i=$((i+1)); done; echo ready; wait"
    target = Target(["/bin/sh", "-c", script], 1, False, True, ())
    try:
        yield target
    finally:
        target.close()


def gap(target: Target) -> float:
    """The longest time in seconds between two looks of a ``clockwatch`` at the clock since this was last asked."""
    target.say("gap")
    return int(target.read_line().split()[1]) / 1e9


#: What a record of cptbpf holds stands in these files of each thread.
FILES = ("stat", "status", "io", "schedstat", "cgroup")
LINKS = ("mnt", "uts", "ipc", "net", "cgroup", "time", "time_for_children", "pid", "pid_for_children", "user")


def read_proc(pid: int, files: Sequence[str] = ("stat", "status"), links: Sequence[str] = ()) -> None:
    """Reads files and namespace links of every thread of a process, and does not even parse them."""
    folder = f"/proc/{pid}/task"
    for tid in os.listdir(folder):
        for name in files:
            descriptor = os.open(f"{folder}/{tid}/{name}", os.O_RDONLY)
            os.read(descriptor, 8192)
            os.close(descriptor)
        for name in links:
            os.readlink(f"{folder}/{tid}/ns/{name}")
