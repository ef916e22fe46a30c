"""What this kernel allows of BPF, each thing found by trying it. Nothing that is loaded or attached here stays.

Every probe returns a short text about what it found, or raises: OSError and the errors of :mod:`cptbpf.errors` say why not.
"""

import errno
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cptbpf import rundir
from cptbpf.errors import PrivilegeError, UnsupportedError
from cptbpf.kernel import bpf, pins, sources
from cptbpf.kernel.btf import VMLINUX, Btf, Kind, load_libbpf

_NO_PREALLOC = 1  # BPF_F_NO_PREALLOC
_FUNCTION = "do_exit"  # in every kernel, and seldom called
_KALLSYMS_HEAD = 1 << 16  # bytes: a per-cpu variable's address may be 0, a thousand symbols' are not


@contextmanager
def _held(*descriptors: int) -> Iterator[None]:
    """Closes what was opened for a try."""
    try:
        yield
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def bcc() -> str:
    """BCC can be imported, in a process of its own: LLVM takes 70 MB. Raises UnsupportedError."""
    import subprocess
    import sys

    from cptbpf.kernel.compiler import BCC_REMEDY

    script = "import bcc; bcc.BPF; from bcc import libbcc; print(getattr(bcc, '__version__', ''), bcc.__file__)"
    # -P: a file of the working directory must not be imported in its place
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        return done.stdout.strip()
    last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    if "has no attribute 'BPF'" in last or "cannot import name 'libbcc'" in last:
        raise UnsupportedError("the module bcc that python finds is not BCC", BCC_REMEDY)
    raise UnsupportedError(f"python cannot import bcc: {last}", BCC_REMEDY)


def btf() -> str:
    """The kernel's BTF can be read. Raises UnsupportedError."""
    Btf()
    return f"{os.stat(VMLINUX).st_size / 1e6:.1f} MB"


def libbpf() -> str:
    """libbpf is installed. Raises UnsupportedError."""
    library = load_libbpf()
    return f"{library.libbpf_major_version()}.{library.libbpf_minor_version()}"


def syscall() -> str:
    """bpf(2) makes a map and loads a program. Raises OSError, PrivilegeError."""
    made = bpf.map_create("probe", bpf.MAP_ARRAY, 4, 8, 1, 0)
    with _held(made), _held(bpf.prog_load(bpf.PROG_RAW_TRACEPOINT, bpf.RETURN_0, "probe")):
        return "makes maps, loads programs"


def warm() -> bool:
    """Whether the compiled iterators are pinned, so that neither BCC nor libbpf nor BTF is asked for."""
    return pins.folder(f"tasks-{sources.key('tasks')}") is not None


def iter_task() -> str:
    """The project's own iterators load, and one pass finds tasks. Raises OSError, PrivilegeError, UnsupportedError."""
    from cptbpf.kernel.tasks import TaskReader

    syscall()  # else, where it is not permitted, a compiler would be started in vain
    pinned = warm()
    with TaskReader() as reader:
        reader.ask_own()
        count = len(reader.states())
    if not count:
        raise UnsupportedError("a pass finds no task, though cptbpf itself is one")
    return f"a pass sees {count} tasks; {'opened from pins' if pinned else 'compiled, now pinned' if warm() else 'loaded'}"


def _tracing(attach_type: int, target: str, kind: Kind) -> str:
    number = Btf().attach_id(target, kind)
    loaded = bpf.prog_load(bpf.PROG_TRACING, bpf.RETURN_0, "probe", attach_type, number)
    with _held(loaded), _held(bpf.raw_tracepoint_open(loaded)):
        return "attaches"


def tp_btf() -> str:
    """A program attaches to sched_switch with typed arguments. Raises OSError, PrivilegeError, UnsupportedError."""
    return _tracing(bpf.TRACE_RAW_TP, "btf_trace_sched_switch", Kind.TYPEDEF)


def fentry() -> str:
    """A program attaches to the entry of a function. Raises OSError, PrivilegeError, UnsupportedError."""
    try:
        return _tracing(bpf.TRACE_FENTRY, _FUNCTION, Kind.FUNC)
    except PrivilegeError:
        syscall()
        raise UnsupportedError("the kernel refuses them with EPERM, whatever the privilege") from None


def kprobe() -> str:
    """A program attaches to the entry of a function by a kprobe. Raises OSError, PrivilegeError, UnsupportedError."""
    loaded = bpf.prog_load(bpf.PROG_KPROBE, bpf.RETURN_0, "probe")
    with _held(loaded), _held(bpf.kprobe_open(loaded, _FUNCTION, False)):
        return "attaches"


def raw_tracepoint() -> str:
    """A program attaches to sched_switch without types. Raises OSError, PrivilegeError."""
    loaded = bpf.prog_load(bpf.PROG_RAW_TRACEPOINT, bpf.RETURN_0, "probe")
    with _held(loaded), _held(bpf.raw_tracepoint_open(loaded, "sched_switch")):
        return "attaches"


def ring_buffer() -> str:
    """The kernel has BPF ring buffers. Raises OSError, PrivilegeError."""
    with _held(bpf.map_create("probe", bpf.MAP_RINGBUF, 0, 0, os.sysconf("SC_PAGESIZE"), 0)):
        return "can be made"


def task_storage() -> str:
    """The kernel keeps values of ours with each task. Raises OSError, PrivilegeError, UnsupportedError."""
    try:
        made = bpf.map_create("probe", bpf.MAP_TASK_STORAGE, 4, 8, 0, _NO_PREALLOC)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise UnsupportedError("this kernel has no such map") from None
        raise
    with _held(made):
        return "can be made"


def program_set(name: str) -> Callable[[], str]:
    """A probe for a private program set: which of its variants the kernel takes."""

    def probe() -> str:
        from cptbpf.kernel import programs

        loaded = programs.open_private(name)
        loaded.close()
        return f"by {loaded.variant}" + "".join(f"; {variant} is refused" for variant, _ in loaded.refused)

    return probe


def structs() -> str:
    """Where this kernel has what others have elsewhere (bpf/compat.h). Raises UnsupportedError."""
    kernel = Btf()

    def first(*places: str) -> str:
        return next((place for place in places if _has(kernel, place)), "nowhere")

    fpu = "thread_struct.fpu" if _has(kernel, "thread_struct.fpu") else "behind task_struct"
    found = {
        "state": first("task_struct.__state", "task_struct.state"),
        "start": first("task_struct.start_boottime", "task_struct.real_start_time"),
        "cpu": first("thread_info.cpu", "task_struct.cpu"),
        "syscall work": first("thread_info.syscall_work", "thread_info.flags"),
        "capabilities": first("kernel_cap_t.val", "kernel_cap_struct.cap"),
        "FPU": f"{fpu}, {first('fpu.fpstate', 'fpu.state')}",
        "PKRU": first("thread_struct.pkru") if _has(kernel, "thread_struct.pkru") else "the FPU area",
        "dr6": first("thread_struct.virtual_dr6", "thread_struct.debugreg6"),
    }
    return "; ".join(f"{what}: {where}" for what, where in found.items())


def _has(kernel: Btf, place: str) -> bool:
    struct_name, _, member = place.partition(".")
    found = kernel.find(struct_name, Kind.STRUCT)
    if found is None and (named := kernel.find(struct_name, Kind.TYPEDEF)) is not None:
        found = kernel.resolve(named.target)
    return found is not None and any(one.name == member for one in kernel.members(found))


def perf_event() -> str:
    """A software event of a whole cpu can be opened. Raises OSError."""
    attr = struct.pack("=IIQQ", 1, 112, 0, 1_000_000) + bytes(88)  # PERF_COUNT_SW_CPU_CLOCK
    with _held(bpf.perf_event_open(attr)):
        return "open"


def helper(name: str) -> Callable[[], str]:
    """A probe for a BPF helper function, by its name in ``enum bpf_func_id``."""

    def probe() -> str:
        kernel = Btf()
        found = kernel.find("bpf_func_id", Kind.ENUM)
        if found is None or f"BPF_FUNC_{name}" not in dict(kernel.enumerators(found)):
            raise UnsupportedError("this kernel's BPF has not that helper")
        return "there"

    return probe


def bpffs() -> str:
    """A bpffs is mounted; to be asked after :func:`iter_task`, which mounts it where it may. Raises UnsupportedError."""
    if not pins.mounted():
        raise UnsupportedError(f"none is mounted at {pins.BPFFS}", "mount -t bpf bpf /sys/fs/bpf")
    return f"mounted at {pins.BPFFS}, {'holds the compiled programs' if warm() else 'without programs of ours'}"


def run_directory() -> str:
    """What is made once can be kept. Raises UnsupportedError."""
    if rundir.directory() is None:
        raise UnsupportedError(f"{rundir.PATH} cannot be made, or others may write to it")
    return rundir.PATH


def kallsyms() -> str:
    """The kernel's symbols have addresses for us. Raises OSError, UnsupportedError."""
    with open("/proc/kallsyms", "rb") as stream:
        head = stream.read(_KALLSYMS_HEAD).splitlines()[:-1]
    shown = any(int(line.split(None, 1)[0], 16) for line in head)
    if not shown:
        raise UnsupportedError("addresses are hidden", "give CAP_SYSLOG, and set kernel.kptr_restrict to 0 or 1 (sysctl)")
    return "addresses are shown"


def cpuid() -> str:
    """CPUID can be asked, which tells how the FPU's state is laid out. Raises UnsupportedError."""
    from cptbpf.cpu import cpuid

    return f"leaves up to {cpuid(0)[0]:#x}"


def xsave() -> str:
    """The CPU has XSAVE, and the kernel uses it. Raises UnsupportedError."""
    from cptbpf.cpu import layout

    area = layout()
    if area is None:
        raise UnsupportedError("this CPU has none, or the kernel does not use it: images have the 512 bytes of fxsave alone")
    return f"{area.size} bytes, {len(area.user())} components beyond SSE"
