"""Loads a compiled set into the kernel: makes its maps, loads its programs, attaches them.

Everything is reached through descriptors of this process alone: when it ends, however it ends, nothing of it is left.
"""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator

from cptbpf.errors import UnsupportedError
from cptbpf.kernel import bpf
from cptbpf.kernel.btf import Btf, Kind
from cptbpf.kernel.objects import Objects, relocated
from cptbpf.kernel.sources import Program, Variant

# kind: (program type, attach type, what BTF calls the target)
_TRACING: dict[str, tuple[int, str, Kind]] = {
    "iter": (bpf.TRACE_ITER, "bpf_iter_{}", Kind.FUNC),
    "tp_btf": (bpf.TRACE_RAW_TP, "btf_trace_{}", Kind.TYPEDEF),
    "fentry": (bpf.TRACE_FENTRY, "{}", Kind.FUNC),
    "fexit": (bpf.TRACE_FEXIT, "{}", Kind.FUNC),
}


def load(objects: Objects, variant: Variant) -> tuple[dict[str, int], dict[str, int]]:
    """Loads a set and attaches its programs: descriptors of its maps and links, and of the programs themselves, by name.

    Raises UnsupportedError where the kernel refuses a map or a program, saying which and why; PrivilegeError.
    """
    with unlimited_memlock():
        return _load_all(objects, variant)


def _load_all(objects: Objects, variant: Variant) -> tuple[dict[str, int], dict[str, int]]:
    btf = Btf()
    code = {program.name: program for program in objects.programs}
    descriptors: dict[str, int] = {}
    loaded: dict[str, int] = {}
    try:
        for table in objects.maps:
            with _named(f"map {table.name}"):
                descriptors[table.name] = bpf.map_create(*table)
        for program in variant.programs:
            with _named(program.name):
                instructions = relocated(code[program.name], descriptors)
                loaded[program.name] = _load(btf, program, instructions)
                descriptors[program.name] = _attach(program, loaded[program.name])
    except BaseException:
        for descriptor in (*descriptors.values(), *loaded.values()):
            os.close(descriptor)
        raise
    return descriptors, loaded


@contextlib.contextmanager
def unlimited_memlock() -> Iterator[None]:
    """A block without limit on locked memory, to load in.

    Before 5.11, d5299b67dd59 ("bpf: Memcg-based memory accounting for bpf maps"), maps and programs counted as locked memory of
    their user, all together, and too many of them were refused with EPERM.
    """
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with contextlib.suppress(OSError, ValueError):  # without CAP_SYS_RESOURCE it stays, and a newer kernel does not mind
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, before)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Says which map or program a refusal is about."""
    try:
        yield
    except OSError as error:
        said = str(error.filename or "").strip().splitlines()[-2:]
        why = f"{os.strerror(error.errno or errno.EIO)}{': ' if said else ''}{' '.join(said)}"
        raise UnsupportedError(f"the kernel refused the BPF {name}: {why}") from None


def _load(btf: Btf, program: Program, code: bytes) -> int:
    if program.kind in _TRACING:
        attach_type, pattern, kind = _TRACING[program.kind]
        return bpf.prog_load(
            bpf.PROG_TRACING, code, program.name, attach_type, btf.attach_id(pattern.format(program.target), kind)
        )
    prog_type = bpf.PROG_RAW_TRACEPOINT if program.kind == "raw_tp" else bpf.PROG_KPROBE
    return bpf.prog_load(prog_type, code, program.name)


def _attach(program: Program, loaded: int) -> int:
    if program.kind == "iter":
        return bpf.link_iter(loaded)
    if program.kind in _TRACING:
        return bpf.raw_tracepoint_open(loaded)
    if program.kind == "raw_tp":
        return bpf.raw_tracepoint_open(loaded, program.target)
    return bpf.kprobe_open(loaded, program.target, program.kind == "kretprobe")
