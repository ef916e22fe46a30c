"""Images made by hand: a small crowd whose members differ in what a test is about."""

from pathlib import Path
from typing import Any

from cptbpf.fields import GROUPS, group
from cptbpf.image.flags import timespec_export
from cptbpf.image.model import (
    CERTIFICATE_CONSISTENT,
    FREEZE_PTRACE,
    REGISTERS_PTRACE,
    Head,
    Image,
    Meta,
    TaskImage,
    TaskRecord,
    Trailer,
    X86_64Regs,
)
from cptbpf.image.writer import write_image

SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND
BOOT = 100_000 * SECOND
SLEEPING, UNINTERRUPTIBLE, STOPPED, TRACED, ZOMBIE, IDLE = 0x1, 0x2, 0x4, 0x8, 0xA0, 0x402

_DEFAULTS: dict[str, Any] = {"static_prio": 120, "user_ns": 7, "pid_ns": 42}


def registers(call: int = -1, **values: int) -> X86_64Regs:
    """Registers of a 64-bit task that is in a system call, or in none."""
    zero = dict.fromkeys(X86_64Regs._fields, 0)
    return X86_64Regs(**{**zero, "debugreg": (0,) * 8, "orig_rax": call & (1 << 64) - 1, **values})  # type: ignore[arg-type]


def task(pid: int, comm: bytes = b"prog", parent: int = 0, leader: int = 0, **values: Any) -> TaskImage:
    """A task; ``values`` are fields of the catalogue by name, or parts of a TaskImage (regs, ext, provenance)."""
    parts = {name: values.pop(name) for name in ("regs", "provenance") if name in values}
    ext = values.pop("ext", {})
    known: dict[str, Any] = {**_DEFAULTS, "host_pid": 1000 + pid, **values}
    record = dict.fromkeys(TaskRecord._fields, 0) | {
        "pid": pid,
        "tgid": leader or pid,
        "rppid": parent,
        "ppid": parent,
        "state": SLEEPING,
        "tls": (0, 0, 0),
        "real_start_time": timespec_export(BOOT - 90 * SECOND),
    }
    record |= {name: value for name, value in known.items() if name in record}
    record["comm"] = comm.ljust(16, b"\0")[:16]
    groups = {name: tuple(known.get(field.name, 0) for field in group(name)) for name in GROUPS if name != "task"}
    parts.setdefault("provenance", {**dict.fromkeys(("task", *groups), "kernel:A"), "regs": "ptrace"})
    return TaskImage(TaskRecord(**record), ext={**groups, **ext}, **parts)  # type: ignore[arg-type]


def image(*tasks: TaskImage, **meta: Any) -> Image:
    """An image of these tasks."""
    known: dict[str, Any] = {
        "pid_ns": 42,
        "pid_ns_level": 1,
        "user_ns": 7,
        "realtime": NOW,
        "boottime": BOOT,
        "freeze": FREEZE_PTRACE,
        "registers": REGISTERS_PTRACE,
        "strings": {"release": "6.1.0", "hostname": "elsewhere", "writer": "cptbpf 0", "request": "pid 1"},
    }
    return Image(Head(0), Meta(**{**known, **meta}), tasks, Trailer(len(tasks), CERTIFICATE_CONSISTENT))


def saved(path: Path, *tasks: TaskImage, **meta: Any) -> Path:
    """An image of these tasks, in a file."""
    write_image(image(*tasks, **meta), path)
    return path
