"""The check of an image against itself: what it has of one thing from two sides, and what must follow from one another."""

import signal
from collections.abc import Iterable, Iterator
from typing import Any

from cptbpf.conductors.crosscheck import Result
from cptbpf.conductors.crosscheck.fpu import compare_fpu
from cptbpf.fields import FIELDS, REGISTERS
from cptbpf.image.flags import encode_task_flags
from cptbpf.image.model import FREEZE_PTRACE, Image, Meta, TaskImage, X86_64Regs, X86Regs
from cptbpf.image.provenance import from_pass, is_absent, not_stopped
from cptbpf.rules import AGREE, DISAGREE, EXPLAINED, restarted
from cptbpf.xsave import FXSAVE_SIZE, UNDEFINED, fxsave_of

#: What all threads of a process have in common.
_SHARED = ("tgid", "pgrp", "session", "nr_threads", "group_exit_code", "signal_flags")
#: The signals of which one takes others off the queue, SIGCONT those that stop and they it: prepare_signal().
_STOPPING = sum(1 << number - 1 for number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT))
_OF_THE_LEADER = "shared with the thread-group leader"
_HEX = {field.name for field in (*FIELDS, *REGISTERS) if field.hex}


def check_image(image: Image) -> Iterator[Result]:
    """Every comparison that an image allows."""
    leaders = {task.task.tgid: task for task in image.tasks if task.task.pid == task.task.tgid}
    for task in image.tasks:
        yield from _registers(task)
        yield from _fpu(task, image.meta)
        yield from _derived(task, image.meta)
        leader = leaders.get(task.task.tgid)
        if leader is not None and leader is not task and _stood_still(task, leader, image.meta):
            yield from _of_one_process(task, leader)
    yield from _moved(image)


def _result(task: TaskImage, field: str, witness: str, kernel: Any, other: Any, rule: str) -> Result:
    return _judged(task, field, witness, kernel, other, AGREE if kernel == other else DISAGREE, rule)


def _judged(task: TaskImage, field: str, witness: str, kernel: Any, other: Any, verdict: str, rule: str) -> Result:
    values = (_shown(field, kernel), _shown(field, other))
    return Result(task.task.pid, task.value("host_pid") or 0, field, witness, *values, verdict, rule)


def _shown(field: str, one: Any) -> Any:
    if isinstance(one, tuple | list):
        return [_shown(field, item) for item in one]
    return f"{one:#x}" if isinstance(one, int) and (field in _HEX or field in X86Regs._fields) else one


def _registers(task: TaskImage) -> Iterator[Result]:
    """The kernel's view of the general registers, of which the image has a copy only where it is another."""
    said = task.source("kregs")
    if task.regs is None or not said or is_absent(said):
        return
    kernel: X86_64Regs | X86Regs = task.ext.get("kregs", task.regs)
    if type(kernel) is not type(task.regs):  # one of them was of 32 bits: cs says so
        yield _judged(task, "cs", "ptrace", kernel.cs, task.regs.cs, DISAGREE, "exact")
        return
    at_once = not said.startswith(from_pass("A"))
    ours: Any
    other: Any
    for name, ours, other in zip(task.regs._fields, kernel, task.regs, strict=True):
        if name == "debugreg":
            continue  # the kernel's in both
        why = restarted(ours, other) if name in ("rax", "ax") and not at_once else ""
        rule = "syscall" if name in ("rax", "ax") else "exact"
        if why:
            yield _judged(task, name, "ptrace", ours, other, EXPLAINED, f"{rule}: {why}")
        else:
            yield _result(task, name, "ptrace", ours, other, rule)


def _fpu(task: TaskImage, meta: Meta) -> Iterator[Result]:
    areas: dict[str, bytes | None] = {}
    for name, own in (("fxsave", task.fxsave), ("xsave", task.xsave)):
        said = task.source(f"k{name}")
        had = own is not None and bool(said) and not is_absent(said)
        areas[name] = bytes(own) if own is not None else None
        areas[f"k{name}"] = bytes(task.ext.get(f"k{name}", own)) if had else None
    for field, kernel, other, verdict, rule in compare_fpu(
        areas["kfxsave"], areas["kxsave"], areas["fxsave"], areas["xsave"], meta.xstate
    ):
        yield _judged(task, field, "ptrace", kernel, other, verdict, rule)
    fxsave, xsave = areas["fxsave"], areas["xsave"]
    if fxsave is not None and xsave is not None:
        same = fxsave == fxsave_of(xsave)
        shown = (f"{UNDEFINED.start} bytes",) * 2 if same else (fxsave.hex(), xsave[:FXSAVE_SIZE].hex())
        yield _judged(task, "fxsave", "image", *shown, AGREE if same else DISAGREE, "the head of xsave, without software bytes")


def _derived(task: TaskImage, meta: Meta) -> Iterator[Result]:
    """Values that follow from others of the same task."""
    record = task.task
    yield _result(task, "utimescaled", "image", record.utimescaled, record.utime, "repeats utime")
    yield _result(task, "stimescaled", "image", record.stimescaled, record.stime, "repeats stime")
    pf_flags, count = task.value("pf_flags"), task.value("ngroups")
    if pf_flags is not None:
        yield _result(task, "flags", "image", record.flags, encode_task_flags(pf_flags), "pf_flags, re-encoded")
    if count is not None and "groups" in task.ext:
        yield _result(task, "ngroups", "image", count, len(task.ext["groups"]), "the length of groups")
    levels = {level.level: level for level in task.ext.get("pids", ())}
    if meta.pid_ns_level in levels:
        level = levels[meta.pid_ns_level]
        yield _result(task, "pid", "image", record.pid, level.pid, "pids, at the level that was asked for")
        yield _result(task, "pids", "image", meta.pid_ns, level.ns, "the namespace that was asked for")
        last = levels[max(levels)]
        for name, other in (("ns_level", last.level), ("pid_ns", last.ns)):
            if (own := task.value(name)) is not None:
                yield _result(task, name, "image", own, other, "the innermost of pids")


def _stood_still(task: TaskImage, leader: TaskImage, meta: Meta) -> bool:
    """Whether what both have in common is of one instant."""
    return meta.freeze == FREEZE_PTRACE and not any(not_stopped(one.source("regs")) for one in (task, leader))


def _of_one_process(task: TaskImage, leader: TaskImage) -> Iterator[Result]:
    """What threads share is the same in all of them: one instant is in the image."""
    for name in _SHARED:
        own, other = task.value(name), leader.value(name)
        if own is not None and other is not None:
            yield _result(task, name, "image", own, other, _OF_THE_LEADER)
    yield from _signals(task, leader)


def _signals(task: TaskImage, leader: TaskImage) -> Iterator[Result]:
    """The queue of a process, which others fill while its tasks stand still: who was read later may have more in it."""
    name = "sig_shared_pending"
    own, other = task.value(name), leader.value(name)
    if own is None or other is None:
        return
    first, last = (own, other) if task.value("host_pid") < leader.value("host_pid") else (other, own)
    if own != other and not first & ~last & ~_STOPPING:
        yield _judged(task, name, "image", own, other, EXPLAINED, f"{_OF_THE_LEADER}: a signal came while they stood still")
    else:
        yield _result(task, name, "image", own, other, _OF_THE_LEADER)


def _moved(image: Image) -> Iterable[Result]:
    """What the certificate says to have moved while the tasks stood still."""
    tasks = {task.task.pid: task for task in image.tasks}
    for entry in image.trailer.entries:
        task = tasks.get(entry.pid)
        host = (task.value("host_pid") if task else None) or 0
        rule = "certificate: moved while the tasks were stopped"
        yield Result(entry.pid, host, entry.field, "image", entry.before, entry.after, DISAGREE, rule)
