"""Snapshots for tests: taken of a target, read back from the image's bytes, and asked for a field by its name."""

import io
from pathlib import Path
from typing import Any

import cptbpf
from cptbpf.conductors.snapshot import Summary
from cptbpf.fields import BY_NAME, group
from cptbpf.image.model import Image, TaskImage
from cptbpf.image.reader import parse
from tests.conductors import witness
from tests.harness import SLOWNESS, Target, until

#: Seconds that a snapshot of a test may wait for stops: far more than it needs.
PATIENCE = 10 * SLOWNESS
PLACES = {
    field.name: index
    for name in ("host", "cred", "sched", "signal", "io", "ns", "mm")
    for index, field in enumerate(group(name))
}


class Shot:
    """One snapshot: what it said, and its image as the reader sees it."""

    def __init__(self, summary: Summary, data: bytes) -> None:
        self.summary = summary
        self.data = data
        self.image: Image = parse(data)
        self.tasks: dict[int, TaskImage] = {value(task, "host_pid"): task for task in self.image.tasks}
        assert len(self.tasks) == len(self.image.tasks) == summary.tasks, "a task stands twice in the image"

    def get(self, host_pid: int, *names: str) -> Any:
        """A field of a task by its name in the catalogue; several fields as a tuple."""
        found = tuple(value(self.tasks[host_pid], name) for name in names)
        return found[0] if len(names) == 1 else found

    def pid(self, pid: int) -> TaskImage:
        """A task by its id in the namespace that was asked for."""
        return next(task for task in self.image.tasks if task.task.pid == pid)


def value(task: TaskImage, name: str) -> Any:
    """A field of a task by its name in the catalogue."""
    field = BY_NAME[name]
    return getattr(task.task, name) if field.group == "task" else task.ext[field.group][PLACES[name]]


def shoot(what: Target | int | None = None, **how: Any) -> Shot:
    """Take a snapshot of a target's namespace, of the namespace with that inode, or of what ``how`` says."""
    if what is not None:
        how["pidns"] = f"pid:[{what.ns_inode if isinstance(what, Target) else what}]"
    stream = io.BytesIO()
    summary = cptbpf.snapshot(output=stream, **{"timeout": PATIENCE, **how})
    assert summary.size == len(stream.getvalue())
    return Shot(summary, stream.getvalue())


def assert_whole(shot: Shot) -> None:
    """Everybody stood still, nothing moved, and nobody lacks anything."""
    assert shot.summary.partial == ()
    assert shot.summary.moved == ()
    assert shot.summary.consistent
    assert shot.image.trailer.flags == 1


def said(target: Target, word: str) -> list[int]:
    """The numbers behind a word that a target said."""
    line = next(line for line in target.lines if line.startswith(word + " "))
    return [int(number) for number in line.split()[1:]]


def settled(target: Target) -> dict[int, int]:
    """Waits until everybody in a target's namespace sleeps or is dead; host pids by the pids inside."""
    until(lambda: all(witness.state(pid) in "STZ" for pid in target.members()), "everybody to sleep")
    inside = {}
    for pid in target.members():
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        inside[int(status.partition("\nNSpid:")[2].split("\n", 1)[0].split()[-1])] = pid
    return inside
