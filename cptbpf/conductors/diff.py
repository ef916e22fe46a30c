"""What changed from one image to another, or to the tasks that are there now.

A task is the same in both when its id in the namespace and its start are; a thread that executes a program takes over those of
its leader. A value that either image lacks, and says so, is not compared.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cptbpf.errors import TargetError
from cptbpf.image.model import Image, TaskImage

_ENOSYS, _RESTARTS = 2**64 - 38, frozenset(2**64 - number for number in (512, 513, 514, 516))
_NO_CALL = 2**63  # orig_rax of a task that is in no system call is -1


class Change(NamedTuple):
    """One value that changed, as ``cptbpf decode`` shows it; ``group`` is that of the field. ``host_pid`` is the task's id in
    the pid namespace of the cptbpf that took the later image."""

    pid: int
    group: str
    field: str
    a: Any
    b: Any
    host_pid: int


class Difference(NamedTuple):
    """What is between two images; ``incomparable`` counts the values that one of them lacks."""

    added: tuple[TaskImage, ...]
    gone: tuple[TaskImage, ...]
    changed: tuple[Change, ...]
    incomparable: int

    def __bool__(self) -> bool:
        return bool(self.added or self.gone or self.changed)


def diff(a: Image, b: Image) -> Difference:
    """Compares two images, ``a`` the earlier one. What is added stands in the order of ``b``, the rest in that of ``a``."""
    before, after = ({_identity(task): task for task in image.tasks} for image in (a, b))
    changed: list[Change] = []
    incomparable = 0
    for identity, task in before.items():
        other = after.get(identity)
        if other is None or task == other:
            continue
        for change in _changes(task, other):
            if change.a is None or change.b is None:
                incomparable += 1
            else:
                changed.append(change)
    added = tuple(task for identity, task in after.items() if identity not in before)
    gone = tuple(task for identity, task in before.items() if identity not in after)
    return Difference(added, gone, tuple(changed), incomparable)


def live(image: Image) -> Image:
    """The tasks of an image's namespace, or of its process tree, as they are now; nobody is stopped.

    Raises TargetError where the image is of another machine or boot, or of a namespace that has ended; what
    :func:`cptbpf.snapshot` raises.
    """
    import io

    from cptbpf.conductors.snapshot import snapshot
    from cptbpf.image.reader import parse
    from cptbpf.proc.system import system

    boot = system().boot_id
    if not boot:
        raise TargetError(
            "nothing tells which boot this is: /proc has no sys/kernel/random/boot_id", "mount -t proc proc /proc"
        )
    if image.meta.strings.get("boot_id") != boot:
        raise TargetError("the image is of another machine, or of another boot of this one", "compare it with another image")
    stream = io.BytesIO()
    kind, _, number = image.meta.strings.get("request", "").partition(" ")
    if kind == "pid" and number.isascii() and number.isdigit():
        snapshot(pid=int(number), output=stream, freeze=False)
    else:
        snapshot(pidns=f"pid:[{image.meta.pid_ns}]", output=stream, freeze=False)
    now = parse(stream.getvalue())
    if now.meta.pid_ns != image.meta.pid_ns:
        raise TargetError(f"process {number} is another one now", "compare the image with another image")
    return now


def _identity(task: TaskImage) -> tuple[int, int]:
    return task.task.pid, task.task.real_start_time


def _changes(a: TaskImage, b: TaskImage) -> Iterator[Change]:
    ours, others = _flat(a), _flat(b)
    for key in [*ours, *(key for key in others if key not in ours)]:
        before, after = ours.get(key), others.get(key)
        if before != after and not (key == ("regs", "rax") and _same_call(ours, others)):
            yield Change(a.task.pid, *key, before, after, others.get(("host", "host_pid"), 0))


def _flat(task: TaskImage) -> dict[tuple[str, str], Any]:
    """Every value of a task by its group and name, as JSON has it; what stands by itself has a group of its own name."""
    from cptbpf.fields import GROUPS
    from cptbpf.image.jsonio import task_to_json

    shown = task_to_json(task)
    values = {("task", name): value for name, value in shown["task"].items()}
    for group, part in shown["ext"].items():
        if group in GROUPS:
            values |= {(group, name): value for name, value in part.items()}
        elif group not in ("kregs", "kfxsave", "kxsave"):  # the other view of what is compared below
            values[group, group] = part
    values |= {("regs", name): value for name, value in (shown["regs"] or {}).items()}
    values |= {(name, name): value for name, value in shown["fpu"].items()}
    return values


def _same_call(a: Mapping[tuple[str, str], Any], b: Mapping[tuple[str, str], Any]) -> bool:
    """Whether rax only shows that one of them was stopped within a system call: -ENOSYS becomes -ERESTART*."""
    if any(int(values.get(("regs", "orig_rax")) or hex(_NO_CALL), 16) >= _NO_CALL for values in (a, b)):
        return False
    found = {int(values["regs", "rax"], 16) for values in (a, b)}
    return _ENOSYS in found and bool(found & _RESTARTS)
