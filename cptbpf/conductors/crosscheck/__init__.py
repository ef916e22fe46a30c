"""The conductor of ``crosscheck``: the kernel's value of each field against what /proc and ptrace show of it."""

import os
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from cptbpf.errors import TargetError
from cptbpf.rules import AGREE, DISAGREE, EXPLAINED

if TYPE_CHECKING:
    from cptbpf.conductors.assemble import Omission


class Result(NamedTuple):
    """One comparison.

    ``pid`` is the id in the namespace that was asked for, ``host_pid`` the one in cptbpf's own. ``kernel`` and ``other`` are
    the values of both sides as JSON has them; ``witness`` is ``proc``, ``ptrace``, or ``image`` for what an image says twice.
    ``verdict`` is ``agree``, ``explained`` or ``disagree``; ``rule`` names the rule, and the reason of a difference.
    """

    pid: int
    host_pid: int
    field: str
    witness: str
    kernel: Any
    other: Any
    verdict: str
    rule: str


class Stray(NamedTuple):
    """A task that the kernel has and /proc has not, or the other way. ``pid`` is 0 where only /proc knows the task.

    ``start_boottime`` (ns, cut to ticks where /proc is the source) makes up its identity with the host pid; ``why`` says what
    hides it where that is known.
    """

    pid: int
    host_pid: int
    comm: bytes
    start_boottime: int
    why: str


class Summary(NamedTuple):
    """Counts over all results. ``undecided`` are results that are explained by nothing but that they kept moving; ``ended``
    are tasks that ended before they could be compared; times are in ms. ``hook`` says what showed the kernel's values at the
    moment that /proc rendered a running task's: ``fentry``, ``kprobe``, or ``passes`` where the kernel takes neither and a pass
    before and one after bracket them; "" for an image. ``covered`` names what is mounted over files of these processes in
    /proc, most of which are witnesses of nothing: who else reads them is shown that. ``after_thaw`` are tasks that had stopped
    and were compared by brackets all the same, without registers: all others had taken as long as anybody is kept."""

    tasks: int
    compared: int
    agree: int
    explained: int
    disagree: int
    undecided: int
    ended: int
    method: str
    hook: str
    frozen_ms: float
    wall_ms: float
    covered: tuple[str, ...] = ()
    after_thaw: int = 0


class Report(NamedTuple):
    """What a check found.

    ``names`` has comm, raw, of each task by ``pid``. ``not_stopped`` are those that were to be stopped and could not: they are
    compared by brackets, and their registers are not.
    """

    results: tuple[Result, ...]
    names: Mapping[int, bytes]
    hidden: tuple[Stray, ...]
    phantom: tuple[Stray, ...]
    summary: Summary
    not_stopped: "tuple[Omission, ...]" = ()

    @property
    def finding(self) -> bool:
        """Is there a disagreement, a hidden or a phantom task?"""
        return bool(self.summary.disagree or self.hidden or self.phantom)


#: The rule of a value that moved in every look.
KEPT_MOVING = "kept moving"


def crosscheck(
    *,
    pidns: str | int | None = None,
    pid: int | None = None,
    file: str | os.PathLike[str] | BinaryIO | None = None,
    freeze: bool = True,
    timeout: float = 1.0,
) -> Report:
    """Set the kernel's value of each field against independent witnesses.

    ``pidns``, ``pid``
        A live target, as :func:`cptbpf.snapshot` takes it; or ``file``, an image, which is checked against itself.
    ``freeze``
        False: nobody is stopped, everything is bracketed, and registers are not compared.
    ``timeout``
        Seconds to wait for tasks to stop.

    Raises TargetError, PrivilegeError, UnsupportedError, and ImageError of a file.
    """
    started = time.monotonic_ns()
    if (pidns is not None) + (pid is not None) + (file is not None) != 1:
        raise TargetError("name one target: a pid namespace, a process or an image", "give --pidns NS, --pid PID or FILE")
    if file is not None:
        from cptbpf.conductors.crosscheck.image import check_image
        from cptbpf.image.reader import load

        image = load(file)
        names = {task.task.pid: task.task.comm.partition(b"\0")[0] for task in image.tasks}
        return _report(check_image(image), names, "image", len(names), started)
    from cptbpf import capabilities
    from cptbpf.conductors.crosscheck.live import LiveCheck
    from cptbpf.conductors.crosscheck.tasks import strays
    from cptbpf.proc import namespaces

    if freeze:
        capabilities.require("to stop tasks", "CAP_SYS_PTRACE")
    with LiveCheck(pidns, pid) as check:
        if freeze:
            check.frozen(timeout)
        else:
            check.running()
        check.repeat()
        hidden, phantom = strays(check.reader, check.target)
        method = "frozen" if freeze else "running"
        report = _report(check.results(), check.names, method, check.tasks, started)
        ended = len(check.unseen - {stray.host_pid for stray in hidden})
        covered = tuple(place for pid, places in namespaces.covers().items() if pid in check.seen for place in places)
        summary = report.summary._replace(
            hook=check.hooks.name,
            ended=ended,
            frozen_ms=round(check.frozen_ns / 1e6, 3),
            covered=covered,
            after_thaw=check.after_thaw,
        )
        return report._replace(hidden=hidden, phantom=phantom, summary=summary, not_stopped=tuple(check.not_stopped))


def _report(results: Iterable[Result], names: Mapping[int, bytes], method: str, tasks: int, started: int) -> Report:
    found = tuple(results)
    counts = dict.fromkeys((AGREE, EXPLAINED, DISAGREE), 0)
    for result in found:
        counts[result.verdict] += 1
    return Report(
        found,
        names,
        (),
        (),
        Summary(
            tasks=tasks,
            compared=len(found),
            agree=counts[AGREE],
            explained=counts[EXPLAINED],
            disagree=counts[DISAGREE],
            undecided=sum(result.rule.startswith(KEPT_MOVING) for result in found),
            ended=0,
            method=method,
            hook="",
            frozen_ms=0.0,
            wall_ms=round((time.monotonic_ns() - started) / 1e6, 3),
        ),
    )
