"""The C sources of bpf/, the program sets that they make, and the key under which a compiled set is kept."""

import hashlib
import os
from typing import NamedTuple

from cptbpf.errors import UnsupportedError


class Program(NamedTuple):
    """A program of a set.

    ``kind``
        How it is loaded and attached: ``iter``, ``tp_btf``, ``raw_tp``, ``fentry``, ``fexit``, ``kprobe`` or ``kretprobe``.
    ``target``
        The iterator, tracepoint or kernel function that it is for.
    """

    name: str
    kind: str
    target: str


class Variant(NamedTuple):
    """One way to compile a set; which one a kernel takes is found by trying, the cheapest first."""

    name: str
    defines: tuple[str, ...]
    programs: tuple[Program, ...]


class ProgramSet(NamedTuple):
    """One compilation: its files in order, the ways to compile them, and the maps that user space handles."""

    files: tuple[str, ...]
    variants: tuple[Variant, ...]
    maps: tuple[str, ...]


def _witnesses(on_entry: str, on_return: str) -> tuple[Program, ...]:
    """bpf/proc_witness.bpf.c on the functions that render /proc/PID/stat and status."""
    return (
        Program("stat_entered", on_entry, "do_task_stat"),
        Program("stat_returned", on_return, "do_task_stat"),
        Program("status_entered", on_entry, "proc_pid_status"),
        Program("status_returned", on_return, "proc_pid_status"),
    )


def _follower(kind: str) -> tuple[Program, ...]:
    """bpf/sched_sample.bpf.c on the life of tasks."""
    return (
        Program("on_switch", kind, "sched_switch"),
        Program("on_fork", kind, "sched_process_fork"),
        Program("on_newborn", kind, "sched_wakeup_new"),
        Program("on_exec", kind, "sched_process_exec"),
        Program("on_exec_again", kind, "sched_process_exec"),
        Program("on_exit", kind, "sched_process_exit"),
        Program("on_pass", "iter", "task"),
    )


def _cred_followers(kind: str) -> tuple[Program, ...]:
    """bpf/cred_watch.bpf.c where commit_creds cannot be hooked."""
    return (
        Program("on_switch", kind, "sched_switch"),
        Program("on_fork", kind, "sched_process_fork"),
        Program("on_pass", "iter", "task"),
    )


# A program of its own: bpf_get_current_task_btf is as old as task storage for tracing programs.
_TICK = Program("on_tick", "tp_btf", "local_timer_entry")

SETS: dict[str, ProgramSet] = {
    "tasks": ProgramSet(
        files=("task_record.h", "compat.h", "task_read.h", "task_iter.bpf.c", "task_regs.bpf.c"),
        variants=(
            Variant(
                "iter",
                (),
                (
                    Program("bpf_iter__task", "iter", "task"),
                    Program("bpf_iter__task_regs", "iter", "task"),
                ),
            ),
        ),
        maps=("readers",),
    ),
    "sample": ProgramSet(
        files=(
            "task_record.h",
            "sample_record.h",
            "compat.h",
            "task_read.h",
            "sample_watch.h",
            "task_memory.h",
            "sched_report.h",
            "sched_sample.bpf.c",
        ),
        variants=(
            Variant("storage", ("UNTRUSTED_POINTERS",), (*_follower("tp_btf"), _TICK)),
            Variant("hash", ("UNTRUSTED_POINTERS", "NO_TASK_STORAGE"), _follower("tp_btf")),
            Variant("raw", ("UNTRUSTED_POINTERS", "NO_TASK_STORAGE", "RAW_TP"), _follower("raw_tp")),
        ),
        maps=("samplers", "settings", "stats", "seeds", "samples"),
    ),
    "proc_witness": ProgramSet(
        files=("task_record.h", "witness_record.h", "compat.h", "task_read.h", "proc_witness.bpf.c"),
        variants=(
            Variant("fentry", (), _witnesses("fentry", "fexit")),
            Variant("kprobe", ("UNTRUSTED_POINTERS",), _witnesses("kprobe", "kretprobe")),
        ),
        maps=("readings",),
    ),
    "cred_watch": ProgramSet(
        files=(
            "task_record.h",
            "cred_record.h",
            "compat.h",
            "task_read.h",
            "cred_known.h",
            "task_memory.h",
            "cred_watch.bpf.c",
        ),
        variants=(
            Variant("fentry", ("UNTRUSTED_POINTERS", "FENTRY"), (Program("on_commit", "fentry", "commit_creds"),)),
            Variant("kprobe", ("UNTRUSTED_POINTERS",), (Program("on_commit", "kprobe", "commit_creds"),)),
            Variant("sched_switch", ("UNTRUSTED_POINTERS", "FOLLOW_SWITCHES"), _cred_followers("tp_btf")),
            Variant(
                "sched_switch-hash",
                ("UNTRUSTED_POINTERS", "FOLLOW_SWITCHES", "NO_TASK_STORAGE"),
                _cred_followers("tp_btf"),
            ),
            Variant(
                "sched_switch-raw",
                ("UNTRUSTED_POINTERS", "FOLLOW_SWITCHES", "NO_TASK_STORAGE", "RAW_TP"),
                _cred_followers("raw_tp"),
            ),
        ),
        maps=("watched", "changes"),
    ),
}


def directory() -> str:
    """The folder of the C sources: inside the installed package, or beside it in a checkout."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    inside = os.path.join(package, "bpf")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "bpf")


def text(name: str) -> str:
    """The source of a program set, its files one after another, each introduced by a #line.

    Raises UnsupportedError where the installation lacks a file.
    """
    folder = directory()
    parts = []
    for file in SETS[name].files:
        try:
            with open(os.path.join(folder, file), encoding="utf-8") as stream:
                parts.append(f'#line 1 "{file}"\n{stream.read()}')
        except OSError as error:
            raise UnsupportedError(
                f"the BPF source {error.filename} cannot be read: {error.strerror}", "reinstall cptbpf"
            ) from None
    return "\n".join(parts)


def key(name: str) -> str:
    """What a compiled set depends on, as 32 hex digits: its sources, how they are compiled, and this kernel."""
    digest = hashlib.sha256(text(name).encode())
    digest.update(repr(SETS[name]).encode())
    for file in ("headers.py", "compiler.py"):
        with open(os.path.join(os.path.dirname(__file__), file), "rb") as stream:
            digest.update(stream.read())
    digest.update(_kernel_identity())
    return digest.hexdigest()[:32]


def _kernel_identity() -> bytes:
    """The build id of the running kernel, which its notes hold; without it the BTF itself."""
    for path in ("/sys/kernel/notes", "/sys/kernel/btf/vmlinux"):
        try:
            with open(path, "rb") as stream:
                return stream.read()
        except OSError:
            continue
    return "\0".join(os.uname()).encode()
