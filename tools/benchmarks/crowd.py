"""The tasks that are looked at: started in a pid namespace of their own, gone with the ``with`` block."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from tests.harness import Target, build


@contextmanager
def threads(count: int, name: str = "threads") -> Iterator[Target]:
    """A process with ``count`` sleeping threads beside its first one."""
    target = Target([str(build(name)), str(count)], 1, False, True, ())
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


def read_proc(pid: int) -> None:
    """Reads stat and status of every thread of a process, and does not even parse them."""
    folder = f"/proc/{pid}/task"
    for tid in os.listdir(folder):
        for name in ("stat", "status"):
            with open(f"{folder}/{tid}/{name}", "rb", buffering=0) as stream:
                stream.read(8192)
