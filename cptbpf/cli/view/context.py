"""What is the same for all tasks of an image: whence it is, its clocks, and the names of users."""

import os
from collections import Counter
from collections.abc import Iterable
from functools import cached_property

from cptbpf.cli.text import escape, instant, plural
from cptbpf.cli.view.state import was_running
from cptbpf.image.flags import timespec_import
from cptbpf.image.model import (
    CERTIFICATE_CONSISTENT,
    CERTIFICATE_MOVED,
    FREEZE_PTRACE,
    REGISTERS_NONE,
    REGISTERS_PTRACE,
    Image,
    TaskImage,
)
from cptbpf.image.provenance import is_absent, is_by_nature, reason

_INITIAL_USER_NS = 0xEFFFFFFD  # PROC_USER_INIT_INO
_LISTED = 10
# What a task that has ended, or a kernel thread, lacks by nature, and what is said beside the task itself
_UNREMARKABLE = ("regs", "fxsave", "xsave", "kregs", "kfxsave", "kxsave", "kstack")


class Context:
    """An image and what follows from its head."""

    def __init__(self, image: Image, name: str) -> None:
        self.image = image
        self.meta = image.meta
        self.name = name

    @cached_property
    def same_host(self) -> bool:
        """Whether the image is of this boot of this machine, whose user database has the names that its uids meant.

        The uids of an image are the kernel's; they are this process's own numbers only in the initial user namespace.
        """
        try:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
                boot = stream.read().strip()
            return boot == self.meta.strings.get("boot_id") and os.stat("/proc/self/ns/user").st_ino == _INITIAL_USER_NS
        except (OSError, UnicodeError):
            return False

    def user(self, uid: int) -> str:
        """``0 root``, or the number alone where nobody knows the name."""
        if not self.same_host:
            return str(uid)
        from pwd import getpwuid

        try:
            return f"{uid} {escape(getpwuid(uid).pw_name)}"
        except (KeyError, OverflowError):
            return str(uid)

    def age(self, task: TaskImage) -> int:
        """How long the task had lived, in ns."""
        return self.meta.boottime - timespec_import(task.task.real_start_time)

    def since(self, task: TaskImage) -> str:
        """When the task was born, as UTC."""
        return instant(self.meta.realtime - self.age(task))

    def heading(self) -> list[str]:
        """Two lines: of what, when and where the image is, and how far it can be trusted."""
        meta, strings = self.meta, {key: escape(value) for key, value in self.meta.strings.items()}
        return [
            f"{self.name}: {plural(len(self.image.tasks), 'task')} of pid:[{meta.pid_ns}] (level {meta.pid_ns_level}),"
            f" Linux {strings.get('release', '?')} on {strings.get('hostname', '?')}, {instant(meta.realtime)}",
            f"{self._freeze()}; by {strings.get('writer', '?')} for {strings.get('request', '?')}",
        ]

    def _freeze(self) -> str:
        if self.meta.registers == REGISTERS_NONE:
            return "an instant of a recording: the states that were last reported by then, no registers"
        if self.meta.freeze != FREEZE_PTRACE:
            return "nobody was stopped: registers of tasks that were off-cpu, by BPF"
        words = {CERTIFICATE_CONSISTENT: "consistent: nothing moved", CERTIFICATE_MOVED: "NOT CONSISTENT: something moved"}
        held = words.get(self.image.trailer.flags, "not checked whether anything moved")
        registers = "ptrace" if self.meta.registers == REGISTERS_PTRACE else "BPF"
        total, ran = len(self.image.tasks), sum(map(was_running, self.image.tasks))
        return f"{f'{total - ran} of {total}' if ran else 'all'} stopped, {held}; registers by {registers}"

    def footing(self, tasks: Iterable[TaskImage]) -> list[str]:
        """What moved, and what is absent beside the registers, each with its reason."""
        lines = [
            f"moved: pid {entry.pid} {escape(entry.field)} {escape(entry.before)} -> {escape(entry.after)}"
            for entry in self.image.trailer.entries[:_LISTED]
        ]
        more = len(self.image.trailer.entries) - len(lines)
        lines += [f"moved: and {more} more"] if more > 0 else []
        absent = Counter(
            (key, reason(source))
            for task in tasks
            for key, source in task.provenance.items()
            if is_absent(source) and key not in _UNREMARKABLE and not is_by_nature(source)
        )
        return lines + [
            f"absent: {escape(key)} of {plural(count, 'task')} ({escape(why)})"
            for (key, why), count in absent.most_common(_LISTED)
        ]
