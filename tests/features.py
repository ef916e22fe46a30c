"""What this kernel has, found by trying, and what becomes of a test that needs what it has not.

On the machine of a developer such a test is skipped, and the end of the run says so and where it runs: under the kernels of
``tools/vm``. There (``CPTBPF_VM=1``) nothing is left out silently: a missing feature is a failure, unless :data:`LACKING`
says why that kernel or processor cannot have it.

``bpf``, ``ptrace`` and ``kprobe`` are markers of their own; the other features are asked for by ``needs("xsave")``.
"""

import ctypes
import ctypes.util
import os
import platform
import resource
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import pytest

IN_VM = os.environ.get("CPTBPF_VM") == "1"
_left_out: list[tuple[str, str]] = []  # node id, feature

PTRACE_SEIZE = 0x4206
CAP_SYS_PTRACE = 19
TRACING, TRACE_FENTRY, TRACE_ITER = 26, 24, 28  # BPF_PROG_TYPE_TRACING and two of its attach types
MAP_TASK_STORAGE = 29  # BPF_MAP_TYPE_TASK_STORAGE
SYS_PERF_EVENT_OPEN = 298
RETURN_0 = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0)  # r0 = 0; exit


class Lack(NamedTuple):
    """A feature that a kernel or a processor of tools/vm does not have, rightly."""

    feature: str
    release: str  # how the kernel's release begins
    cpu: str  # how the processor's model name begins
    reason: str
    found: str = ""  # how what was found begins, where that matters


LACKING = (
    Lack("xsave", "", "QEMU Virtual CPU", "QEMU's default processor has no XSAVE"),
    Lack("pku", "", "QEMU Virtual CPU", "QEMU's default processor has no protection keys"),
    Lack("avx512", "", "QEMU", "QEMU emulates no AVX-512"),
    Lack("amx", "", "QEMU", "QEMU emulates no AMX"),
    Lack("criu", "", "", "Debian 13 has none", "criu is not installed"),  # tools/vm installs it where apt has it
    Lack("criu", "7.", "", "CRIU 3.17 does not know the vDSO of Linux 6.13 and later"),
    Lack("criu", "5.10.", "", "CRIU dumps no program with rseq, as the C library's are, before Linux 5.13"),
    Lack("task_storage", "5.10.", "", "tracing programs have task storage since Linux 5.13"),
)
# What tools/vm has not either.
NOWHERE = {lack.feature: f"{lack.reason}: run them on a processor that has it" for lack in LACKING if lack.cpu == "QEMU"}


def _error(number: int = 0) -> str:
    return os.strerror(number or ctypes.get_errno())


def _load_tracing(name: str, attach_type: int) -> str:
    """Load an empty program for a function or an iterator; the reason why it cannot be loaded, or ""."""
    try:
        libbpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        return str(error)
    libbpf.libbpf_set_print(None)
    with _unlimited_memlock():
        return _load_empty(libbpf, name, attach_type)


@contextmanager
def _unlimited_memlock() -> Iterator[None]:
    """Before 5.11 what is loaded counts as locked memory."""
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        with suppress(ValueError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, before)


def _load_empty(libbpf: ctypes.CDLL, name: str, attach_type: int) -> str:
    btf_id = libbpf.libbpf_find_vmlinux_btf_id(name.encode(), attach_type)
    if btf_id <= 0:
        return f"no {name} in the kernel's BTF: {_error(-btf_id)}"
    # struct bpf_prog_load_opts: sz, attempts, expected_attach_type, four that stay 0, attach_btf_id, attach_prog_fd
    options = struct.pack("<QiI16xII", 40, 0, attach_type, btf_id, 0)
    fd = libbpf.bpf_prog_load(TRACING, b"probe", b"GPL", RETURN_0, 2, options)
    if fd < 0:
        return f"bpf(2) does not load such a program: {_error(-fd)}"
    os.close(fd)
    return ""


def _bpf() -> str:
    return _load_tracing("task", TRACE_ITER)


def _ptrace() -> str:
    effective = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    if not int(effective.split()[1], 16) >> CAP_SYS_PTRACE & 1:
        return "no CAP_SYS_PTRACE"
    libc = ctypes.CDLL(None, use_errno=True)
    with subprocess.Popen(["sleep", "100"]) as child:
        refused = libc.ptrace(PTRACE_SEIZE, child.pid, None, None)
        reason = f"PTRACE_SEIZE: {_error()}" if refused else ""
        child.kill()
    return reason


def _kprobe() -> str:
    try:
        kind = int(Path("/sys/bus/event_source/devices/kprobe/type").read_text())
    except FileNotFoundError:
        kprobe = "this kernel has no kprobes"
    else:
        name = ctypes.create_string_buffer(b"commit_creds")
        # struct perf_event_attr up to config2: kprobe_func is config1, probe_offset is config2
        attr = ctypes.create_string_buffer(struct.pack("<II5Q2IQQ", kind, 72, *[0] * 7, ctypes.addressof(name), 0))
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.syscall(SYS_PERF_EVENT_OPEN, attr, -1, 0, -1, 0)
        if fd >= 0:
            os.close(fd)
            return ""
        kprobe = f"perf_event_open of a kprobe: {_error()}"
    fentry = _load_tracing("commit_creds", TRACE_FENTRY)
    return fentry and f"{kprobe}; fentry: {fentry}"


def _criu() -> str:
    """A dump of a sleep, by criu: whether it can is nothing that its own check tells."""
    if not shutil.which("criu"):
        return "criu is not installed"
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(["sleep", "100"], start_new_session=True) as child:
        command = ["criu", "dump", "--tree", str(child.pid), "--leave-running", "--images-dir", folder, "--log-file", "log"]
        done = subprocess.run(command, capture_output=True)
        child.kill()
        log = Path(folder, "log")
        lines = log.read_text().splitlines() if log.exists() else []
    said = [line for line in lines if "Error" in line and "exited" not in line]
    return "" if done.returncode == 0 else f"criu dump: {(said or ['no word of why'])[0]}"


def _processor(flag: str, name: str) -> str:
    return "" if flag in Path("/proc/cpuinfo").read_text().split() else f"this processor has no {name}"


def _task_storage() -> str:
    """Maps with a value for each task, which tracing programs may use."""
    try:
        with _unlimited_memlock():
            found = ctypes.CDLL("libbpf.so.1").libbpf_probe_bpf_map_type(MAP_TASK_STORAGE, None)
    except OSError as error:
        return str(error)
    return "" if found == 1 else "bpf(2) makes no map of that type"


PROBES: dict[str, Callable[[], str]] = {
    "bpf": _bpf,
    "ptrace": _ptrace,
    "kprobe": _kprobe,
    "criu": _criu,
    "xsave": partial(_processor, "xsave", "XSAVE"),
    "pku": partial(_processor, "ospke", "protection keys"),
    "avx512": partial(_processor, "avx512bw", "AVX-512"),
    "amx": partial(_processor, "amx_tile", "AMX"),
    "task_storage": _task_storage,
}


@cache
def missing(feature: str) -> str:
    """Why a feature is not there, or ""."""
    return PROBES[feature]()


def excuse(feature: str) -> str:
    """Why this kernel or processor of tools/vm rightly lacks a feature, or ""."""
    release = platform.release()
    cpu = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2]
    for lack in LACKING:
        this = lack.feature == feature and release.startswith(lack.release) and cpu.startswith(lack.cpu)
        if this and missing(feature).startswith(lack.found):
            return lack.reason
    return ""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*features): needs features of tests/features.py, found by trying")


def pytest_runtest_setup(item: pytest.Item) -> None:
    wanted = [name for name in ("bpf", "ptrace", "kprobe") if item.get_closest_marker(name)]
    wanted += [feature for marker in item.iter_markers("needs") for feature in marker.args]
    for feature in wanted:
        if not (reason := missing(feature)):
            continue
        if not IN_VM:
            _left_out.append((item.nodeid, feature))
            pytest.skip(reason if feature in NOWHERE else f"runs in the VM: {reason}")
        if why := excuse(feature):
            _left_out.append((item.nodeid, feature))
            pytest.skip(f"{reason}: {why}")
        pytest.fail(f"{feature} is expected of this kernel, but {reason}", pytrace=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _left_out:
        return
    terminalreporter.section("not run here")
    for feature in dict.fromkeys(feature for _, feature in _left_out):
        tests = [nodeid for nodeid, lacked in _left_out if lacked == feature]
        where = excuse(feature) if IN_VM else NOWHERE.get(feature, "tools/vm runs them under stock kernels")
        terminalreporter.write_line(f"{len(tests)} need {feature} ({missing(feature)}); {where}:")
        for nodeid in tests:
            terminalreporter.write_line(f"  {nodeid}")
