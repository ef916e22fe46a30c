"""The rows of ``check``: what is tried, how much it is needed, and what to do where it fails."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from cptbpf.conductors import host
from cptbpf.errors import CptbpfError, PrivilegeError
from cptbpf.kernel import probe
from cptbpf.kernel.loader import unlimited_memlock

REQUIRED, RECOMMENDED, OPTIONAL = "required", "recommended", "optional"

_ROOT = "run as root; in a container, give it the capability"
_KERNEL = "boot a kernel that has it, as distributions' do"


class Row(NamedTuple):
    """One thing that was tried. ``reason`` is what was found, or why it failed; ``remedy`` what to do then."""

    name: str
    need: str
    ok: bool
    reason: str
    remedy: str


class _Try(NamedTuple):
    """What to try. ``remedy`` is for a failure that brings none of its own; ``purpose`` says what the failure costs."""

    name: str
    need: str
    action: Callable[[], str]
    remedy: str = ""
    purpose: str = ""


def rows() -> Iterator[Row]:
    """Every row, in the order of need. What only a first run needs is required where there has been none."""
    with unlimited_memlock():  # as all that cptbpf loads
        yield from map(_tried, _required())
        yield from map(_tried, _for_compiling(RECOMMENDED if probe.warm() else REQUIRED))
        yield from map(_tried, (*_recommended(), *_optional()))


def _tried(what: _Try) -> Row:
    try:
        return Row(what.name, what.need, True, what.action(), "")
    except CptbpfError as error:
        reason = str(error)
        remedy = _ROOT if isinstance(error, PrivilegeError) else error.remedy or what.remedy
    except OSError as error:
        reason, remedy = error.strerror or str(error), what.remedy
    return Row(what.name, what.need, False, reason + (f" ({what.purpose})" if what.purpose else ""), remedy)


def _required() -> tuple[_Try, ...]:
    return (
        _Try("architecture", REQUIRED, host.architecture, "run it on x86-64"),
        _Try("cpuid", REQUIRED, probe.cpuid),
        _Try("cap_bpf", REQUIRED, host.capability("CAP_BPF", "CAP_SYS_ADMIN"), _ROOT),
        _Try("cap_perfmon", REQUIRED, host.capability("CAP_PERFMON", "CAP_SYS_ADMIN"), _ROOT),
        _Try("cap_sys_ptrace", REQUIRED, host.capability("CAP_SYS_PTRACE"), _ROOT, "tasks cannot be stopped"),
        _Try("proc", REQUIRED, host.proc, "mount -t proc proc /proc"),
        _Try("bpf", REQUIRED, probe.syscall, _KERNEL),
        _Try("iter/task", REQUIRED, probe.iter_task, _KERNEL),
        _Try("ptrace", REQUIRED, host.ptrace, "see the rows yama and seccomp", "--no-freeze does without"),
    )


def _for_compiling(need: str) -> tuple[_Try, ...]:
    return (
        _Try("btf", need, probe.btf, "boot a kernel built with CONFIG_DEBUG_INFO_BTF, as distributions' are"),
        _Try("libbpf", need, probe.libbpf),
        _Try("bcc", need, probe.bcc),
    )


def _recommended() -> tuple[_Try, ...]:
    slow = "every run compiles its programs anew"
    return (
        _Try("bpffs", RECOMMENDED, probe.bpffs, "mount -t bpf bpf /sys/fs/bpf", slow),
        _Try("run directory", RECOMMENDED, probe.run_directory, "run as root, and remove what stands in the way", slow),
        _Try("task_pt_regs", RECOMMENDED, probe.helper("task_pt_regs"), _KERNEL, "user registers are found otherwise"),
        _Try("get_task_stack", RECOMMENDED, probe.helper("get_task_stack"), _KERNEL, "no kernel stacks"),
        _Try("kallsyms", RECOMMENDED, probe.kallsyms, purpose="kernel stacks without names"),
        _Try("openat2", RECOMMENDED, host.openat2, "allow it in the sandbox", "mounts over /proc are found more slowly"),
        _Try("xsave", RECOMMENDED, probe.xsave, "under QEMU: -cpu max"),
        _Try("yama", RECOMMENDED, host.yama, "sysctl kernel.yama.ptrace_scope=1, or 2; from 3 only a reboot leads back"),
        _Try("lockdown", RECOMMENDED, host.lockdown, "boot without lockdown=confidentiality"),
        _Try("seccomp", RECOMMENDED, host.seccomp, "run it outside the sandbox, should bpf or ptrace fail"),
        _Try("cap_sys_admin", RECOMMENDED, host.capability("CAP_SYS_ADMIN"), _ROOT, "to mount bpffs where it is not"),
        _Try("cap_syslog", RECOMMENDED, host.capability("CAP_SYSLOG"), _ROOT, "to name kernel stacks where kptr_restrict is 1"),
        _Try("cap_dac_read_search", RECOMMENDED, _dac(), _ROOT, "build ids of executables that others may not read"),
    )


def _dac() -> Callable[[], str]:
    return host.capability("CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE")


def _optional() -> tuple[_Try, ...]:
    return (
        _Try("kernel structs", OPTIONAL, probe.structs),
        _Try("tp_btf", OPTIONAL, probe.tp_btf, _KERNEL),
        _Try("raw_tracepoint", OPTIONAL, probe.raw_tracepoint, _KERNEL),
        _Try("fentry", OPTIONAL, probe.fentry, "kprobes serve as well, where the kernel has them"),
        _Try("kprobe", OPTIONAL, probe.kprobe, "fentry serves as well, where the kernel has it"),
        _Try("ring_buffer", OPTIONAL, probe.ring_buffer, _KERNEL),
        _Try("task_storage", OPTIONAL, probe.task_storage, _KERNEL),
        _Try("sample", OPTIONAL, probe.program_set("sample"), _KERNEL),
        _Try("proc_witness", OPTIONAL, probe.program_set("proc_witness"), _KERNEL, "crosscheck brackets what /proc reads"),
        _Try("cred_watch", OPTIONAL, probe.program_set("cred_watch"), _KERNEL),
        _Try("perf_event", OPTIONAL, probe.perf_event, "give CAP_PERFMON, or set kernel.perf_event_paranoid to 0"),
        _Try("tracefs", OPTIONAL, host.tracefs, "mount -t tracefs tracefs /sys/kernel/tracing"),
        _Try("cap_sys_nice", OPTIONAL, host.capability("CAP_SYS_NICE"), _ROOT, "a busy machine then draws the freeze out"),
        _Try(
            "cap_sys_resource", OPTIONAL, host.capability("CAP_SYS_RESOURCE"), _ROOT, "kernels before 5.11 limit locked memory"
        ),
    )
